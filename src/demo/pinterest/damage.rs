//! What happens to records on their way: transport damage that leaves a record recognisable, and garbage that does
//! not. All of it was seen on, or described for, the real streams.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::dice::Dice;
use super::emulation::{Kind, Posting};
use super::rows::push_text;

/// What may happen to a record, with weights: the wrong stream is the one that was counted (4 of 1,329).
const DAMAGES: [(Damage, f64); 8] = [
    (Damage::ListOfOne, 2.0),
    (Damage::JsonInString, 2.0),
    (Damage::Base64, 2.0),
    (Damage::Base64InString, 0.5),
    (Damage::Gzip, 1.0),
    (Damage::Zstd, 1.0),
    (Damage::WrongStream, 3.0),
    (Damage::RenamedField, 1.0),
];

#[derive(Debug, Clone, Copy)]
enum Damage {
    ListOfOne,
    JsonInString,
    Base64,
    Base64InString,
    Gzip,
    Zstd,
    WrongStream,
    /// The emulator named `img_src` what the table calls `image_src`, and so sent a null for it.
    RenamedField,
}

/// Damages a record on its way.
pub(super) fn damage(dice: &mut Dice, posting: &mut Posting) {
    let (damage, _) = DAMAGES[dice.weighted(&DAMAGES.map(|(_, weight)| weight))];
    match damage {
        Damage::ListOfOne => {
            posting.data.insert(0, b'[');
            posting.data.push(b']');
        }
        Damage::JsonInString => posting.data = in_string(&posting.data),
        Damage::Base64 => posting.data = base64(&posting.data),
        Damage::Base64InString => posting.data = in_string(&base64(&posting.data)),
        Damage::Gzip => posting.data = gzip(&posting.data),
        Damage::Zstd => posting.data = zstd::bulk::compress(&posting.data, 1).unwrap_or_default(),
        Damage::WrongStream => posting.kind = dice.pick(&posting.kind.others()),
        Damage::RenamedField => rename_image_src(&mut posting.data),
    }
}

fn in_string(data: &[u8]) -> Vec<u8> {
    let mut json = String::with_capacity(data.len() + 64);
    push_text(&mut json, &String::from_utf8_lossy(data));
    json.into_bytes()
}

fn base64(data: &[u8]) -> Vec<u8> {
    base64_simd::STANDARD.encode_type::<Vec<u8>>(data)
}

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(data).and_then(|()| encoder.finish()).unwrap_or_default()
}

fn rename_image_src(data: &mut Vec<u8>) {
    let json = String::from_utf8_lossy(data);
    if let (Some(from), Some(to)) = (json.find("\"image_src\":"), json.find(",\"downloaded\"")) {
        *data = format!("{}\"img_src\":null{}", &json[..from], &json[to..]).into_bytes();
    }
}

/// A payload that is no record, beside (or made of) the record of this kind.
pub(super) fn garbage(dice: &mut Dice, kind: Kind, record: &[u8]) -> Vec<u8> {
    match dice.below(14) {
        0 => Vec::new(),
        1 => b" \n".to_vec(),
        2 => b"Internal Server Error".to_vec(),
        3 => b"<html><head><title>502 Bad Gateway</title></head><body></body></html>".to_vec(),
        4 | 5 => record[..record.len() * 2 / 3].to_vec(),
        6 => invalid_utf8(dice, record),
        7 => b"{\"test\":\"hello world\"}".to_vec(),
        8 => format!("{{\"message\":\"Missing Authentication Token\",\"stream\":\"{}\"}}", kind.name()).into_bytes(),
        9 => [vec![b'['; 200], vec![b']'; 200]].concat(),
        10 => b"[1,2,3]".to_vec(),
        11 => b"null".to_vec(),
        12 => [b"\x1f\x8b\x08\x00".as_slice(), record].concat(),
        _ => without_number(record),
    }
}

fn invalid_utf8(dice: &mut Dice, record: &[u8]) -> Vec<u8> {
    let mut data = record.to_vec();
    let at = dice.below(data.len() as u32) as usize;
    if let Some(byte) = data.get_mut(at) {
        *byte = 0xff;
    }
    data
}

/// The record without its first field, the number that everything is joined by.
fn without_number(record: &[u8]) -> Vec<u8> {
    let rest = record.iter().position(|byte| *byte == b',').map_or(record, |comma| &record[comma + 1..]);
    [b"{".as_slice(), rest].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compressed_and_wrapped_records_hold_the_record() {
        let record = br#"{"ind":1,"country":"Cote d'Ivoire"}"#;
        let text: String = serde_json::from_slice(&in_string(record)).unwrap();
        assert_eq!(text.as_bytes(), record);
        assert_eq!(base64_simd::STANDARD.decode_to_vec(base64(record)).unwrap(), record);
        let mut inflated = Vec::new();
        std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(gzip(record).as_slice()), &mut inflated).unwrap();
        assert_eq!(inflated, record);
    }

    #[test]
    fn the_renamed_field_takes_the_value_along() {
        let mut data = br#"{"index":1,"image_src":"https://x","downloaded":1}"#.to_vec();
        rename_image_src(&mut data);
        assert_eq!(data, br#"{"index":1,"img_src":null,"downloaded":1}"#);
    }

    #[test]
    fn garbage_is_never_a_whole_record() {
        let record = br#"{"ind":1,"country":"Peru"}"#;
        let mut dice = Dice::new(1, 1);
        for _ in 0..500 {
            let data = garbage(&mut dice, Kind::Geo, record);
            let value: Option<serde_json::Value> = serde_json::from_slice(&data).ok();
            assert!(value.is_none_or(|value| value.get("ind").is_none()), "{}", String::from_utf8_lossy(&data));
        }
    }
}
