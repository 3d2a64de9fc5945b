//! Many records in one, as the Kinesis Producer Library and its likes send them.

use md5::{Digest, Md5};

/// One aggregated record's payload of these (partition key, explicit hash key, payload).
pub fn aggregate<'a>(records: impl IntoIterator<Item = (&'a str, Option<u128>, &'a [u8])>) -> Vec<u8> {
    let (mut partition_keys, mut hash_keys, mut entries) = (Table::default(), Table::default(), Vec::new());
    for (partition_key, hash_key, data) in records {
        let mut entry = Vec::new();
        number(&mut entry, 1, partition_keys.index_of(partition_key.to_owned()));
        if let Some(hash_key) = hash_key {
            number(&mut entry, 2, hash_keys.index_of(hash_key.to_string()));
        }
        text(&mut entry, 3, data);
        entries.push(entry);
    }
    let mut body = Vec::new();
    partition_keys.0.iter().for_each(|key| text(&mut body, 1, key.as_bytes()));
    hash_keys.0.iter().for_each(|key| text(&mut body, 2, key.as_bytes()));
    entries.iter().for_each(|entry| text(&mut body, 3, entry));
    let digest = Md5::digest(&body);
    [&[0xf3, 0x89, 0x9a, 0xc2], body.as_slice(), digest.as_slice()].concat()
}

/// Each key once, in the order of its first use.
#[derive(Default)]
struct Table(Vec<String>);

impl Table {
    fn index_of(&mut self, key: String) -> u64 {
        let index = self.0.iter().position(|known| *known == key).unwrap_or_else(|| {
            self.0.push(key);
            self.0.len() - 1
        });
        index as u64
    }
}

fn number(out: &mut Vec<u8>, field: u64, value: u64) {
    varint(out, field << 3);
    varint(out, value);
}

fn text(out: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    varint(out, field << 3 | 2);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
