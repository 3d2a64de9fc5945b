//! `where`: which records a window counts. Comparisons of a column with values, all of which must hold.
//!
//! A language of one page, so that every mistake can be answered with its place and what would be right. As in SQL a
//! comparison with a null is not true: `n != 3` leaves out the records without `n`.

use chrono::{DateTime, NaiveDate, NaiveDateTime};

use super::read_column::Columns;
use super::window::{Comparison, Condition, Test};
use super::{ColumnType, Constant};
use crate::limits::WHERE_VALUES_MAX;
use crate::toml_doc::nearest;

/// What is wrong, and where in the text (byte).
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub at: usize,
    pub message: String,
}

const OPERATORS: [(&str, Comparison); 6] = [
    ("=", Comparison::Equal),
    ("!=", Comparison::NotEqual),
    ("<", Comparison::Less),
    ("<=", Comparison::AtMost),
    (">", Comparison::Greater),
    (">=", Comparison::AtLeast),
];

/// Reads the text. `Ok(None)` if it names a column whose own fault was noted already. Everything that is wrong with
/// columns and values is told; what is no sentence ends the reading.
pub(super) fn conditions(text: &str, columns: &Columns) -> Result<Option<Vec<Condition>>, Vec<Fault>> {
    let mut reader = Reader { text, at: 0, values: 0, columns, faults: Vec::new() };
    let read = reader.conditions();
    let mut faults = reader.faults;
    match read {
        Ok(conditions) if faults.is_empty() => Ok(conditions),
        Ok(_) => Err(faults),
        Err(last) => {
            faults.push(last);
            Err(faults)
        }
    }
}
#[derive(Debug, Clone, PartialEq)]
enum Token<'t> {
    /// A column's name or a keyword.
    Word(&'t str),
    /// A name in double quotes: never a keyword.
    Name(&'t str),
    /// In single quotes.
    Text(String),
    Number(&'t str),
    /// An operator, a bracket or a comma.
    Sign(&'t str),
    End,
}

impl Token<'_> {
    fn shown(&self) -> String {
        match self {
            Self::Word(text) | Self::Number(text) | Self::Sign(text) => format!("`{text}`"),
            Self::Name(name) => format!("`\"{name}\"`"),
            Self::Text(text) => format!("`'{text}'`"),
            Self::End => "the end".to_owned(),
        }
    }

    fn is_word(&self, word: &str) -> bool {
        matches!(self, Self::Word(found) if found.eq_ignore_ascii_case(word))
    }
}

struct Reader<'t> {
    text: &'t str,
    at: usize,
    values: usize,
    columns: &'t Columns,
    /// What does not keep the rest from being read.
    faults: Vec<Fault>,
}

impl<'t> Reader<'t> {
    // --- tokens ---

    fn next(&mut self) -> Result<(usize, Token<'t>), Fault> {
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_start().len();
        let (at, rest) = (self.at, &self.text[self.at..]);
        let Some(first) = rest.chars().next() else { return Ok((at, Token::End)) };
        let run = |belongs: fn(char) -> bool| rest.find(|c| !belongs(c)).unwrap_or(rest.len());
        let (length, token) = match first {
            '\'' => self.quoted(at)?,
            '"' => {
                let end =
                    rest[1..].find('"').ok_or_else(|| Fault { at, message: "a `\"` that is not closed".into() })?;
                (end + 2, Token::Name(&rest[1..=end]))
            }
            '-' | '0'..='9' => {
                let length = run(|c| c.is_alphanumeric() || matches!(c, '-' | '+' | '.' | '_'));
                (length, Token::Number(&rest[..length]))
            }
            '=' | '!' | '<' | '>' => {
                let length = run(|c| matches!(c, '=' | '!' | '<' | '>'));
                (length, Token::Sign(&rest[..length]))
            }
            c if c.is_alphanumeric() || c == '_' => {
                let length = run(|c| c.is_alphanumeric() || c == '_');
                (length, Token::Word(&rest[..length]))
            }
            c => (c.len_utf8(), Token::Sign(&rest[..c.len_utf8()])),
        };
        self.at += length;
        Ok((at, token))
    }

    /// A text in single quotes; two of them are one in it.
    fn quoted(&self, at: usize) -> Result<(usize, Token<'t>), Fault> {
        let mut text = String::new();
        let mut rest = &self.text[at + 1..];
        loop {
            let unclosed = || Fault { at, message: "a `'` that is not closed".to_owned() };
            let (part, after) = rest.split_once('\'').ok_or_else(unclosed)?;
            text.push_str(part);
            match after.strip_prefix('\'') {
                Some(more) => {
                    text.push('\'');
                    rest = more;
                }
                None => return Ok((self.text.len() - after.len() - at, Token::Text(text))),
            }
        }
    }

    // --- conditions ---

    fn conditions(&mut self) -> Result<Option<Vec<Condition>>, Fault> {
        let mut conditions = Vec::new();
        let mut broken = false;
        loop {
            match self.condition()? {
                Some(condition) => conditions.push(condition),
                None => broken = true,
            }
            let (at, token) = self.next()?;
            match token {
                Token::End => return Ok((!broken).then_some(conditions)),
                Token::Word(word) if word.eq_ignore_ascii_case("and") => {}
                Token::Word(word) if word.eq_ignore_ascii_case("or") => {
                    let message = "`or` is not offered: use `in (..)`, or declare a window for each side".to_owned();
                    return Err(Fault { at, message });
                }
                Token::Word(_) | Token::Name(_) | Token::Text(_) | Token::Number(_) | Token::Sign(_) => {
                    return Err(Fault { at, message: format!("{} where `and` or the end belongs", token.shown()) });
                }
            }
        }
    }

    fn condition(&mut self) -> Result<Option<Condition>, Fault> {
        let (at, token) = self.next()?;
        let name = match &token {
            Token::Word(word) if word.eq_ignore_ascii_case("not") => {
                return Err(Fault { at, message: "`not` is not offered here: use `!=` or `is not null`".to_owned() });
            }
            Token::Word(name) | Token::Name(name) => *name,
            Token::Text(_) | Token::Number(_) | Token::Sign(_) | Token::End => {
                let expected = "expected a column, like in `amount >= 1000`";
                return Err(Fault { at, message: format!("{}; {expected}", token.shown()) });
            }
        };
        let found = self.columns.find(name).unwrap_or_else(|unknown| {
            self.faults.push(Fault { at, message: format!("`where` names {unknown}") });
            None
        });
        // Of a broken column the type is not known: the rest is read as if it were text.
        let (column, of) = found.unwrap_or((usize::MAX, ColumnType::String));
        let test = self.test(name, of, found.is_none())?;
        Ok(found.and(test).map(|test| Condition { column, of, test }))
    }

    /// `None` if it is none that the column can be put to, which was noted. `any`: of a column whose type is not known.
    fn test(&mut self, name: &str, of: ColumnType, mut any: bool) -> Result<Option<Test>, Fault> {
        let (at, token) = self.next()?;
        if token.is_word("is") {
            return self.is_null().map(Some);
        }
        if of.is_array() {
            let message = format!("`{name}` is {}: only `is null` and `is not null` are for it", of.as_str());
            self.faults.push(Fault { at, message });
            any = true;
        }
        if token.is_word("in") {
            return self.one_of(name, of, any);
        }
        let expected = "one of =, !=, <, <=, >, >=, `in (..)`, `is null` and `is not null`";
        let known = OPERATORS.iter().find(|(sign, _)| token == Token::Sign(sign));
        let Some((sign, comparison)) = known else {
            let hint = match &token {
                Token::Sign("==" | "===") => "; equal is `=`".to_owned(),
                Token::Sign("<>") => "; not equal is `!=`".to_owned(),
                Token::Word(word) => nearest(word, ["is", "in"].into_iter())
                    .map(|near| format!("; did you mean `{near}`?"))
                    .unwrap_or_default(),
                Token::Name(_) | Token::Text(_) | Token::Number(_) | Token::Sign(_) | Token::End => String::new(),
            };
            return Err(Fault { at, message: format!("{} where {expected} belongs{hint}", token.shown()) });
        };
        if of == ColumnType::Boolean && !matches!(comparison, Comparison::Equal | Comparison::NotEqual) {
            let message = format!("`{name}` is boolean: `{sign}` is not for it, = and != are");
            self.faults.push(Fault { at, message });
        }
        Ok(self.value(name, of, any)?.map(|value| Test::Compare(*comparison, value)))
    }

    fn is_null(&mut self) -> Result<Test, Fault> {
        let (mut at, mut token) = self.next()?;
        let not = token.is_word("not");
        if not {
            (at, token) = self.next()?;
        }
        if !token.is_word("null") {
            let before = if not { "is not" } else { "is" };
            return Err(Fault { at, message: format!("{} after `{before}`; expected `null`", token.shown()) });
        }
        Ok(if not { Test::NotNull } else { Test::Null })
    }

    fn one_of(&mut self, name: &str, of: ColumnType, any: bool) -> Result<Option<Test>, Fault> {
        let (at, token) = self.next()?;
        if token != Token::Sign("(") {
            return Err(Fault { at, message: format!("{} after `in`; expected values in brackets", token.shown()) });
        }
        let mut values = Some(Vec::new());
        loop {
            let value = self.value(name, of, any)?;
            values = values.zip(value).map(|(mut values, value)| {
                values.push(value);
                values
            });
            match self.next()? {
                (_, Token::Sign(",")) => {}
                (_, Token::Sign(")")) => return Ok(values.map(Test::OneOf)),
                (at, other) => {
                    return Err(Fault { at, message: format!("{} where `,` or `)` belongs", other.shown()) });
                }
            }
        }
    }

    // --- values ---

    /// `None` if it is none of the column's, which was noted.
    fn value(&mut self, name: &str, of: ColumnType, any: bool) -> Result<Option<Constant>, Fault> {
        let (at, token) = self.next()?;
        self.values += 1;
        if self.values > WHERE_VALUES_MAX {
            return Err(Fault { at, message: format!("more than {WHERE_VALUES_MAX} values in one `where`") });
        }
        let is_value = match &token {
            Token::Word(_) | Token::Name(_) | Token::Text(_) | Token::Number(_) => true,
            Token::Sign(_) | Token::End => false,
        };
        let value = if any && is_value { Some(Constant::Boolean(false)) } else { constant(of, &token) };
        if value.is_none() {
            let hint = match (&token, of) {
                (Token::Word(word), _) if word.eq_ignore_ascii_case("null") => {
                    "; nothing equals null: use `is null` or `is not null`"
                }
                (Token::Name(_), _) => "; values that are texts stand in single quotes",
                (Token::Sign("("), _) => "; brackets are for `in (..)` only",
                (Token::Word(_) | Token::Text(_) | Token::Number(_) | Token::Sign(_) | Token::End, _) => "",
            };
            let (is, expected) = (of.as_str(), expected(of));
            let message = format!("{} for `{name}`, which is {is}; expected {expected}{hint}", token.shown());
            if !is_value {
                return Err(Fault { at, message });
            }
            self.faults.push(Fault { at, message });
        }
        Ok(value)
    }
}

fn expected(of: ColumnType) -> &'static str {
    match of {
        ColumnType::String => "a text, like 'art'",
        ColumnType::Integer | ColumnType::Long => "a whole number, like 1000",
        ColumnType::Double => "a number, like 0.5",
        ColumnType::Boolean => "true or false",
        ColumnType::Timestamp => "a time, like '2026-01-31T08:15:00Z' or '2026-01-31'",
        ColumnType::Date => "a day, like '2026-01-31'",
        ColumnType::StringArray | ColumnType::LongArray | ColumnType::DoubleArray => "`is null` or `is not null`",
    }
}

/// Timestamps as microseconds, dates as days, as `Whole`.
fn constant(of: ColumnType, token: &Token<'_>) -> Option<Constant> {
    match (of, token) {
        (ColumnType::String, Token::Text(text)) => Some(Constant::Text(text.clone())),
        (ColumnType::Integer | ColumnType::Long, Token::Number(number)) => {
            number.replace('_', "").parse().ok().map(Constant::Whole)
        }
        (ColumnType::Double, Token::Number(number)) => {
            let number: Option<f64> = number.replace('_', "").parse().ok();
            number.filter(|number| number.is_finite()).map(Constant::Double)
        }
        (ColumnType::Boolean, Token::Word(word)) => word.to_ascii_lowercase().parse().ok().map(Constant::Boolean),
        (ColumnType::Timestamp, Token::Text(text)) => timestamp_us(text).map(Constant::Whole),
        (ColumnType::Date, Token::Text(text)) => {
            let day: NaiveDate = text.parse().ok()?;
            Some(Constant::Whole(day.signed_duration_since(NaiveDate::default()).num_days()))
        }
        (_, Token::Word(_) | Token::Name(_) | Token::Text(_) | Token::Number(_) | Token::Sign(_) | Token::End) => None,
    }
}

/// RFC 3339, or without a zone (UTC), or a day alone (its beginning).
fn timestamp_us(text: &str) -> Option<i64> {
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Some(time.timestamp_micros());
    }
    let without_zone = || {
        let formats = ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f"];
        formats.iter().find_map(|format| NaiveDateTime::parse_from_str(text, format).ok())
    };
    let day = || text.parse::<NaiveDate>().ok().map(NaiveDateTime::from);
    without_zone().or_else(day).map(|time| time.and_utc().timestamp_micros())
}
