//! Titles, descriptions, tags and poster names with the lengths and the awkward characters of the original: the
//! ellipsis and no-break space of a cut text, commas, quotes, emoji, other scripts, stray newlines.

use super::dice::Dice;
use super::names::NameList;
use super::words::{BRAND_FIRST, BRAND_LAST, Category, EMOJI, FOREIGN, FOREIGN_TAGS, GLUE, QUALIFIERS};

const TITLE_CHARS: [(f64, f64); 6] = [(0.0, 6.0), (0.1, 25.0), (0.5, 51.0), (0.9, 83.0), (0.99, 143.0), (1.0, 192.0)];
const DESCRIPTION_CHARS: [(f64, f64); 5] = [(0.0, 8.0), (0.03, 39.0), (0.35, 87.0), (0.75, 150.0), (1.0, 174.0)];
const TAG_CHARS: [(f64, f64); 5] = [(0.0, 11.5), (0.1, 16.1), (0.5, 18.2), (0.9, 21.2), (1.0, 27.0)];

/// What the site leaves of a longer description; an ellipsis and a no-break space follow.
const DESCRIPTION_CUT_CHARS: usize = 177;
const DESCRIPTION_END: &str = "…\u{a0}";
const TAGS: usize = 9;

/// Lower-case words around a subject, about `chars` long and never more than two longer.
fn words(dice: &mut Dice, category: &Category, chars: usize) -> String {
    let mut text = String::with_capacity(chars + 4);
    loop {
        let word = match dice.below(20) {
            0..=6 => dice.pick(category.words),
            7..=10 => dice.pick(&QUALIFIERS),
            _ => dice.pick(&GLUE),
        };
        if !text.is_empty() && text.len() + 1 + word.len() > chars + 2 {
            return text;
        }
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(word);
    }
}

fn title_case(text: &str) -> String {
    let mut cased = String::with_capacity(text.len());
    let mut starts = true;
    for letter in text.chars() {
        cased.push(if starts { letter.to_ascii_uppercase() } else { letter });
        starts = letter == ' ';
    }
    cased
}

fn sentence_case(mut text: String) -> String {
    if let Some(first) = text.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    text
}

/// Puts `with` in the place of one of the spaces, or at the end if there is none.
fn replace_a_space(dice: &mut Dice, text: &mut String, with: &str) {
    let spaces: Vec<usize> = text.match_indices(' ').map(|(at, _)| at).collect();
    let at = dice.pick(&spaces);
    if spaces.is_empty() {
        text.push_str(with.trim_end());
    } else {
        text.replace_range(at..=at, with);
    }
}

/// The letters that look like a typeface of their own and are four bytes each.
fn mathematical(text: &str) -> String {
    let bold = |letter: char| match letter {
        'A'..='Z' => char::from_u32(0x1d400 + (letter as u32 - 'A' as u32)).unwrap_or(letter),
        'a'..='z' => char::from_u32(0x1d41a + (letter as u32 - 'a' as u32)).unwrap_or(letter),
        _ => letter,
    };
    text.chars().map(bold).collect()
}

/// A pin's title.
pub(super) fn title(dice: &mut Dice, category: &Category) -> String {
    let chars = dice.quantile(&TITLE_CHARS) as usize;
    let mut title = title_case(&words(dice, category, chars));
    for (chance, with) in [(0.065, ", "), (0.05, "'s "), (0.027, "’s "), (0.02, " – "), (0.07, " | ")] {
        if dice.chance(chance) {
            replace_a_space(dice, &mut title, with);
        }
    }
    match dice.weighted(&[0.018, 0.008, 0.047, 0.009, 0.001, 0.001, 0.001, 0.001, 0.914]) {
        0 => title.make_ascii_uppercase(),
        1 => title = format!("\"{title}\""),
        2 => title = format!("{} {}", dice.pick(&FOREIGN), title.split(' ').take(3).collect::<Vec<_>>().join(" ")),
        3 => title = format!("{title} {}", dice.pick(&EMOJI)),
        4 => title = mathematical(&title),
        5 => title.push('\n'),
        6 => replace_a_space(dice, &mut title, "\n"),
        7 => title.push(' '),
        _ => {}
    }
    title
}

/// A pin's description: two of five are cut by the site.
pub(super) fn description(dice: &mut Dice, category: &Category) -> String {
    let cut = dice.chance(0.393);
    let chars = if cut { 200 } else { dice.quantile(&DESCRIPTION_CHARS) as usize };
    let mut text = sentence_case(words(dice, category, chars));
    if dice.chance(0.53) {
        (0..=dice.below(3)).for_each(|_| replace_a_space(dice, &mut text, ", "));
    }
    for (chance, with) in [(0.02, " \"perfect\" "), (0.03, " – "), (0.08, "’s "), (0.1, ". ")] {
        if dice.chance(chance) {
            replace_a_space(dice, &mut text, with);
        }
    }
    match dice.weighted(&[0.085, 0.045, 0.012, 0.001, 0.857]) {
        0 => text = text.split([' ', ',']).filter(|word| !word.is_empty()).map(|word| format!("#{word} ")).collect(),
        1 => text.insert_str(0, &format!("{}. ", dice.pick(&FOREIGN))),
        2 => text.insert_str(0, &format!("{} ", dice.pick(&EMOJI))),
        3 => text.insert_str(0, "https://example.org/pins "),
        _ => {}
    }
    finish_description(&text, cut, dice.chance(0.023))
}

fn finish_description(text: &str, cut: bool, dots: bool) -> String {
    let kept: String = text.chars().take(DESCRIPTION_CUT_CHARS).collect();
    let end = match (cut, dots) {
        (true, _) => DESCRIPTION_END,
        (false, true) => "...",
        (false, false) => "",
    };
    format!("{}{end}", kept.trim_end())
}

/// A pin's tags: nine phrases joined by commas (one pin in 1,500 has eight).
pub(super) fn tags(dice: &mut Dice, category: &Category) -> String {
    let count = if dice.chance(0.000_65) { TAGS - 1 } else { TAGS };
    let chars = dice.quantile(&TAG_CHARS);
    let foreign = if dice.chance(0.011) { dice.below(count as u32) as usize } else { count };
    let mut tags = String::with_capacity(200);
    for index in 0..count {
        if index > 0 {
            tags.push(',');
        }
        if index == foreign {
            tags.push_str(dice.pick(&FOREIGN_TAGS));
        } else {
            let chars = (chars + 6.0 * (dice.unit() - 0.5)) as usize;
            tags.push_str(&title_case(&words(dice, category, chars)));
        }
    }
    tags
}

/// A poster's display name: people, brands, and brands with what they are about.
pub(super) fn poster_name(dice: &mut Dice, first: &NameList, last: &NameList, category: &Category) -> String {
    let mut name = match dice.weighted(&[0.46, 0.325, 0.156, 0.059]) {
        0 => format!("{} {}", first.draw(dice), last.draw(dice)),
        1 => brand(dice),
        2 => format!("{} | {}", brand(dice), tagline(dice, category)),
        _ => format!("{}: {}", brand(dice), tagline(dice, category)),
    };
    match dice.weighted(&[0.019, 0.008, 0.008, 0.004, 0.961]) {
        0 => name.push(' '),
        1 => name = format!("{name} {}", dice.pick(&EMOJI)),
        2 => name = name.replacen('e', "é", 1),
        3 => name = format!("{name}/{}", dice.pick(&FOREIGN)),
        _ => {}
    }
    name
}

fn brand(dice: &mut Dice) -> String {
    let (first, last) = (dice.pick(&BRAND_FIRST), dice.pick(&BRAND_LAST));
    match dice.weighted(&[0.16, 0.3, 0.54]) {
        0 => format!("{first} & {last}"),
        1 => format!("{first} {last}"),
        _ => format!("{first} {} {last}", dice.pick(&BRAND_FIRST)),
    }
}

fn tagline(dice: &mut Dice, category: &Category) -> String {
    let chars = 14 + dice.below(38) as usize;
    let mut tagline = title_case(&words(dice, category, chars));
    if dice.chance(0.3) {
        replace_a_space(dice, &mut tagline, ", ");
    }
    tagline
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::pinterest::words::CATEGORIES;

    #[test]
    fn a_cut_description_ends_in_an_ellipsis_and_a_no_break_space() {
        let text = "word ".repeat(60);
        let cut = finish_description(&text, true, false);
        assert_eq!(cut.chars().count(), 179);
        assert!(cut.ends_with("…\u{a0}"));
        assert_eq!(finish_description("short", false, true), "short...");
    }

    #[test]
    fn tags_are_nine_phrases_without_commas_of_their_own() {
        let mut dice = Dice::new(7, 7);
        let counts: Vec<usize> = (0..200).map(|_| tags(&mut dice, &CATEGORIES[0]).split(',').count()).collect();
        assert!(counts.iter().filter(|count| **count == TAGS).count() >= 198, "{counts:?}");
    }
}
