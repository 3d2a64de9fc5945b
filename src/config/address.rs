//! Where AWS and the lake are. Addresses are logged, so that none may have a secret in it.

use super::text;
use crate::toml_doc::{Cut, Filled, Problems, Section};

/// `region`
pub fn region(section: &mut Section<'_>) -> Option<String> {
    text(section, "region").map(|region| region.value)
}

/// `endpoint`
pub fn endpoint(section: &mut Section<'_>, problems: &Problems) -> Option<String> {
    let endpoint = text(section, "endpoint")?;
    // What stands in an address is logged with it. A password may be where no parser looks for one.
    if endpoint.value.contains(['@', '?', '#']) {
        let expected = "expected http://host:port or https:// (credentials come from the AWS credential chain)";
        problems.note(&endpoint.place, format_args!("`endpoint` has more in it than an address; {expected}"));
        return None;
    }
    // An empty port is no port to a parser, and to whoever left it empty a mistake.
    let lacks_its_port = endpoint.value.trim_end_matches('/').ends_with(':');
    let usable =
        !lacks_its_port && url::Url::parse(&endpoint.value).is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
    if !usable {
        let value = Cut(&endpoint.value);
        problems.note(&endpoint.place, format_args!("`endpoint` = {value:?}; expected http://host:port or https://"));
    }
    usable.then_some(endpoint.value)
}

/// `lake.uri`: of S3 or a folder. What else is asked of it is asked when it is opened.
pub fn lake_uri(section: &mut Section<'_>, problems: &Problems) -> Option<String> {
    let uri = section.required::<Filled>("uri")?;
    let (uri, place) = (uri.value.0, uri.place);
    if has_user(&uri) {
        let expected = "expected s3://bucket/prefix or a folder (credentials come from the AWS credential chain)";
        problems.note(&place, format_args!("`lake.uri` has a user, a password or a port in it; {expected}"));
        return None;
    }
    if uri.contains("://") && !(uri.starts_with("s3://") || uri.starts_with("file://")) {
        problems.note(&place, format_args!("`lake.uri` = {:?}; expected a folder or s3://bucket/prefix", Cut(&uri)));
    } else if (uri.starts_with("s3:") || uri.starts_with("s3//")) && !uri.starts_with("s3://") {
        let expected = "expected s3://bucket/prefix, or ./ before a folder of this name";
        problems.note(&place, format_args!("`lake.uri` = {:?}; {expected}", Cut(&uri)));
    }
    if uri.strip_prefix("s3://").is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) {
        problems
            .note(&place, format_args!("`lake.uri` = {:?} names no bucket; expected s3://bucket/prefix", Cut(&uri)));
    }
    if let Some(prefix) = uri.strip_prefix("s3://").and_then(s3_prefix).filter(|prefix| !is_spelt_alike(prefix)) {
        let expected =
            "expected what every engine spells alike: no ? # % * ~ and the like, nothing but ASCII, no // and no ..";
        problems.note(&place, format_args!("`lake.uri` = {:?} has the prefix {prefix:?}; {expected}", Cut(&uri)));
    }
    Some(uri)
}

/// What stands behind the bucket.
fn s3_prefix(bucket_and_prefix: &str) -> Option<&str> {
    bucket_and_prefix.split_once('/').map(|(_bucket, prefix)| prefix.trim_end_matches('/'))
}

/// Object stores' keys are texts, but whoever reads them in an address decodes and encodes what is unusual, each in their
/// own way.
fn is_spelt_alike(prefix: &str) -> bool {
    object_store::path::Path::from(prefix).as_ref() == prefix
}

/// Whether there may be a user or a password in an address, which would be logged with it.
fn has_user(uri: &str) -> bool {
    let authority = uri.split_once("://").map(|(_, rest)| rest.split('/').next().unwrap_or_default());
    authority.is_some_and(|authority| authority.contains(['@', ':']))
}
