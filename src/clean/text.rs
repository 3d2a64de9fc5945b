//! White space at the ends of a text, and what a text says.

/// The text without ASCII white space and no-break spaces (U+00A0) at both ends.
#[inline]
pub(super) fn trim(text: &str) -> &str {
    // Most texts begin and end with what is neither, as their bytes tell.
    if let [b'!'..=b'~', .., b'!'..=b'~'] = text.as_bytes() { text } else { text.trim_matches(is_blank) }
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t'..='\r' | '\u{a0}')
}

/// A value for messages: quoted, control characters escaped, cut.
pub(super) fn shown(text: &str) -> String {
    const SHOWN_BYTES_MAX: usize = 60;
    let cut = text.floor_char_boundary(SHOWN_BYTES_MAX);
    let rest = if cut < text.len() { "…" } else { "" };
    format!("{:?}{rest}", &text[..cut])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_and_no_break_spaces_go_from_both_ends_only() {
        assert_eq!(trim(" \t\r\n\u{b}\u{c}\u{a0}a \u{a0}b…\u{a0} \n"), "a \u{a0}b…");
        assert_eq!(trim("\u{a0} \n"), "");
        assert_eq!(trim("\u{2003}a\u{200d}"), "\u{2003}a\u{200d}");
    }
}
