//! `[serve]`: where HTTP listens, and who may look.
//!
//! The token itself is never in the file, which may be in anybody's repository: it comes from a file of its own or
//! from the environment. What is wrong with it is said without it.

use std::net::SocketAddr;
use std::path::Path;

use super::{resolve, text};
use crate::limits::{SERVE_TOKEN_LETTERS_MAX, SERVE_TOKEN_LETTERS_MIN, WINDOW_SERIES_DEFAULT, WINDOW_SERIES_MAX};
use crate::serve::{Access, Token};
use crate::toml_doc::{At, Cut, Place, Problems, Section, read_file};

/// The variable that holds the token.
pub(super) const TOKEN_VARIABLE: &str = "PINTAIL__SERVE__TOKEN";

/// The address, who may look there, and how many keys of each window the metrics show. `token` is the environment's.
pub(super) fn read(
    mut section: Section<'_>,
    folder: &Path,
    token: Option<&str>,
    problems: &Problems,
) -> (SocketAddr, Access, usize) {
    let listen = section.optional::<SocketAddr>("listen");
    let token_file = text(&mut section, "token_file");
    let protect_metrics = section.optional::<bool>("protect_metrics");
    let window_series_max = window_series_max(&mut section, problems);
    let has_token = token.is_some() || token_file.is_some();
    section.finish();
    let token = match (token, token_file) {
        (Some(text), _) => usable(text, &Place::environment(TOKEN_VARIABLE), problems),
        (None, Some(file)) => read_token(&resolve(folder, &file.value), &file, problems),
        (None, None) => None,
    };
    if let Some(At { value, place }) = &listen
        && !value.ip().is_loopback()
        && !has_token
    {
        problems.note(
            place,
            format_args!(
                "`serve.listen` = {value} can be reached from other machines, and everybody there could read the page \
                 and the API; add `token_file = \"FILE\"` to [serve] or set {TOKEN_VARIABLE}, or listen on 127.0.0.1"
            ),
        );
    }
    if let Some(At { value: true, place }) = &protect_metrics
        && !has_token
    {
        let mend = format_args!("`serve.protect_metrics` needs a token: add `token_file` or set {TOKEN_VARIABLE}");
        problems.note(place, mend);
    }
    let listen = listen.map_or(SocketAddr::from(([127, 0, 0, 1], 9464)), |listen| listen.value);
    let access = Access { token, protect_metrics: protect_metrics.is_some_and(|protect| protect.value) };
    (listen, access, window_series_max)
}

fn window_series_max(section: &mut Section<'_>, problems: &Problems) -> usize {
    let Some(At { value, place }) = section.optional::<i64>("window_series_max") else {
        return WINDOW_SERIES_DEFAULT;
    };
    let keys = usize::try_from(value).ok().filter(|keys| *keys <= WINDOW_SERIES_MAX);
    if keys.is_none() {
        let expected = format!("expected 0 (only totals) to {WINDOW_SERIES_MAX} keys of each window");
        problems.note(&place, format_args!("`serve.window_series_max` = {value}; {expected}"));
    }
    keys.unwrap_or(WINDOW_SERIES_DEFAULT)
}

fn read_token(path: &Path, declared: &At<String>, problems: &Problems) -> Option<Token> {
    let shown = path.display().to_string();
    let bytes = read_file(path).map_err(|error| error.to_string());
    let text = bytes.and_then(|bytes| String::from_utf8(bytes).map_err(|_| "is not UTF-8".to_owned()));
    match text {
        Ok(text) => usable(&text, &declared.place, problems),
        Err(error) => {
            problems.note(&declared.place, format_args!("`serve.token_file` {:?}: {error}", Cut(&shown)));
            None
        }
    }
}

fn usable(text: &str, place: &Place, problems: &Problems) -> Option<Token> {
    let token = Token::parse(text);
    if token.is_none() {
        problems.note(
            place,
            format_args!(
                "the token cannot be used; expected {SERVE_TOKEN_LETTERS_MIN} to {SERVE_TOKEN_LETTERS_MAX} letters, digits \
                 or any of -._~ (`openssl rand -hex 32` makes a good one)"
            ),
        );
    }
    token
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::config::Config;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    /// A configuration with these lines in `[serve]`, and a token file beside it.
    fn load(serve: &str, token: &str, environment: &[(&str, &str)]) -> Result<Config, String> {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| -> PathBuf {
            std::fs::write(folder.path().join(name), text).unwrap();
            folder.path().join(name)
        };
        file("a.toml", "table = \"a\"\n[[column]]\nname = \"id\"\ntype = \"integer\"\n");
        file("token", token);
        let text = format!(
            "pipeline = \"p\"\n[lake]\nuri = \"/lake\"\n[serve]\n{serve}\n[[stream]]\nname = \"s\"\ncontract = \"a.toml\"\n"
        );
        let environment = environment.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        Config::load(&file("pintail.toml", &text), environment).map_err(|invalid| invalid.to_string())
    }

    #[test]
    fn an_address_beyond_loopback_needs_a_token_and_the_refusal_says_how() {
        let open = "listen = \"0.0.0.0:9464\"";
        let told = load(open, SECRET, &[]).unwrap_err();
        assert!(
            told.contains("pintail.toml:5") && told.contains("token_file") && told.contains(TOKEN_VARIABLE),
            "{told}"
        );
        assert!(load(&format!("{open}\ntoken_file = \"token\""), &format!("{SECRET}\n"), &[]).is_ok());
        let config = load(open, SECRET, &[(TOKEN_VARIABLE, SECRET)]).unwrap();
        assert_eq!(config.access.token, Token::parse(SECRET));
        assert!(load("listen = \"[::1]:9464\"", SECRET, &[]).unwrap().access.token.is_none());
        assert!(load("protect_metrics = true", SECRET, &[]).unwrap_err().contains("needs a token"));
    }

    #[test]
    fn what_is_wrong_with_a_token_is_said_without_it() {
        let bad = "hunter2 hunter2 hunter2";
        for told in [
            load("token_file = \"token\"", bad, &[]).unwrap_err(),
            load("", SECRET, &[(TOKEN_VARIABLE, bad)]).unwrap_err(),
            load(&format!("token = \"{bad}\""), SECRET, &[]).unwrap_err(),
            load("token_file = \"tokens\"", bad, &[]).unwrap_err(),
        ] {
            assert!(!told.contains("hunter2") && told.contains("token"), "{told}");
        }
        let config = load("token_file = \"token\"\nprotect_metrics = true", SECRET, &[]).unwrap();
        assert!(config.access.protect_metrics && !format!("{config:?}").contains(SECRET));
    }
}
