//! The bucket's contents: what S3 promises of objects, under one lock.
//!
//! Conditions are decided and the object is stored in one critical section, as S3 does it: of any number of
//! `If-None-Match: *` puts of one key exactly one succeeds.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use pintail::clock::now_ms;

/// One object.
#[derive(Debug, Clone)]
pub struct Object {
    /// What it holds.
    pub bytes: Bytes,
    /// A new one with each put, without quotes.
    pub etag: String,
    /// When it was put, in epoch milliseconds.
    pub modified_ms: i64,
}

/// What a put asks of the object that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// Nothing.
    None,
    /// `If-None-Match: *`
    Absent,
    /// `If-Match`
    Etag(String),
}

/// Why nothing was stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotStored {
    /// The condition does not hold.
    Condition,
    /// `If-Match`, but there is none.
    NoKey,
    /// No such upload, or not all of its parts.
    NoUpload,
}

/// A page of a listing.
#[derive(Debug, Default)]
pub struct Page {
    /// Objects, by key.
    pub objects: Vec<(String, Object)>,
    /// Keys cut behind the delimiter.
    pub prefixes: Vec<String>,
    /// What the next page starts after, if there is one.
    pub next: Option<String>,
}

/// The bucket.
#[derive(Debug, Default)]
pub struct Objects {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    objects: BTreeMap<String, Object>,
    uploads: BTreeMap<String, BTreeMap<i32, Object>>,
    etags: u64,
}

impl Inner {
    fn object(&mut self, bytes: Bytes) -> Object {
        self.etags += 1;
        Object { bytes, etag: format!("{:032x}", self.etags), modified_ms: now_ms() }
    }
}

impl Objects {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A rule that panics is a failed test already; what lies here is whole.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stores an object if the condition holds; its ETag.
    pub fn put(&self, key: &str, bytes: Bytes, condition: &Condition) -> Result<String, NotStored> {
        let mut inner = self.lock();
        let there = inner.objects.get(key);
        match condition {
            Condition::None => {}
            Condition::Absent if there.is_none() => {}
            Condition::Etag(etag) if there.is_some_and(|there| there.etag == *etag) => {}
            Condition::Etag(_) if there.is_none() => return Err(NotStored::NoKey),
            Condition::Absent | Condition::Etag(_) => return Err(NotStored::Condition),
        }
        let object = inner.object(bytes);
        let etag = object.etag.clone();
        inner.objects.insert(key.to_owned(), object);
        Ok(etag)
    }

    /// An object.
    pub fn get(&self, key: &str) -> Option<Object> {
        self.lock().objects.get(key).cloned()
    }

    /// Removes an object, if there is one.
    pub fn delete(&self, key: &str) {
        self.lock().objects.remove(key);
    }

    /// Keys with this prefix, in order.
    pub fn keys(&self, prefix: &str) -> Vec<String> {
        let inner = self.lock();
        inner.objects.keys().filter(|key| key.starts_with(prefix)).cloned().collect()
    }

    /// Removes every object with this prefix; how many there were.
    pub fn remove_prefix(&self, prefix: &str) -> usize {
        let mut inner = self.lock();
        let before = inner.objects.len();
        inner.objects.retain(|key, _| !key.starts_with(prefix));
        before - inner.objects.len()
    }

    /// Makes every object with this prefix so much older.
    pub fn age(&self, prefix: &str, by: Duration) {
        let by_ms = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
        let mut inner = self.lock();
        let aged = inner.objects.iter_mut().filter(|(key, _)| key.starts_with(prefix));
        aged.for_each(|(_, object)| object.modified_ms = object.modified_ms.saturating_sub(by_ms));
    }

    /// At most `limit` keys and common prefixes after `after`.
    pub fn list(&self, prefix: &str, delimiter: Option<&str>, after: &str, limit: usize) -> Page {
        let inner = self.lock();
        let mut page = Page::default();
        let mut last = String::new();
        for (key, object) in inner.objects.range(prefix.to_owned()..).take_while(|(key, _)| key.starts_with(prefix)) {
            let rest = &key[prefix.len()..];
            let cut = delimiter.and_then(|delimiter| rest.find(delimiter).map(|at| at + delimiter.len()));
            let entry = &key[..prefix.len() + cut.unwrap_or(rest.len())];
            if entry <= after || (cut.is_some() && page.prefixes.last().is_some_and(|last| last == entry)) {
                continue;
            }
            if page.objects.len() + page.prefixes.len() == limit {
                page.next = Some(last);
                break;
            }
            entry.clone_into(&mut last);
            match cut {
                Some(_) => page.prefixes.push(entry.to_owned()),
                None => page.objects.push((key.clone(), object.clone())),
            }
        }
        page
    }

    // === Uploads in parts ===

    /// Starts one; its id.
    pub fn begin(&self) -> String {
        let mut inner = self.lock();
        let id = inner.object(Bytes::new()).etag;
        inner.uploads.insert(id.clone(), BTreeMap::new());
        id
    }

    /// Stores a part; its ETag.
    pub fn part(&self, upload: &str, number: i32, bytes: Bytes) -> Result<String, NotStored> {
        let mut inner = self.lock();
        let part = inner.object(bytes);
        let etag = part.etag.clone();
        inner.uploads.get_mut(upload).ok_or(NotStored::NoUpload)?.insert(number, part);
        Ok(etag)
    }

    /// Makes an object of the parts, which must all be there, if the condition holds; its ETag.
    pub fn complete(&self, upload: &str, key: &str, parts: &[i32], condition: &Condition) -> Result<String, NotStored> {
        let mut whole = BytesMut::new();
        let stored = self.lock().uploads.get(upload).cloned().ok_or(NotStored::NoUpload)?;
        for part in parts {
            whole.extend_from_slice(&stored.get(part).ok_or(NotStored::NoUpload)?.bytes);
        }
        let etag = self.put(key, whole.freeze(), condition)?;
        self.abort(upload);
        Ok(etag)
    }

    /// Forgets an upload.
    pub fn abort(&self, upload: &str) {
        self.lock().uploads.remove(upload);
    }
}
