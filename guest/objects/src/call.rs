//! What a request asks for, in S3's terms.

use coffer_core_sealed_objects::ObjectName;
use coffer_guest_models::sigv4::decoded;
use hyper::header::{HeaderMap, RANGE};
use hyper::{Method, StatusCode};

use crate::Refusal;

/// A range of an object that a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Range {
    /// From the first to the last, both included.
    Between(u64, u64),
    /// From there to the end.
    From(u64),
    /// So many at the end.
    Last(u64),
}

impl Range {
    /// The header `Range`. One that is not understood, or has several ranges, is as if it were not there (RFC 9110, 14.2).
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (first, last) = text.strip_prefix("bytes=")?.split_once('-')?;
        let number =
            |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten();
        match (first, last) {
            ("", last) => Some(Self::Last(number(last)?)),
            (first, "") => Some(Self::From(number(first)?)),
            (first, last) => {
                let (first, last) = (number(first)?, number(last)?);
                (first <= last).then_some(Self::Between(first, last))
            }
        }
    }

    /// What it is of an object of `size` bytes.
    pub(crate) fn of(self, size: u64) -> Result<std::ops::Range<u64>, Refusal> {
        let found = match self {
            Self::Between(first, last) => first..last.saturating_add(1).min(size),
            Self::From(first) => first..size,
            Self::Last(length) => size.saturating_sub(length)..size,
        };
        match found.start < found.end {
            true => Ok(found),
            false => Err(coffer_core_sealed_objects::ObjectError::Range.into()),
        }
    }
}

/// Which pages of a listing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// The bucket.
    pub bucket: String,
    /// What keys begin with.
    pub prefix: String,
    /// What ends a folder's name.
    pub delimiter: String,
    /// Keys up to this one are left out.
    pub after: String,
    /// The page's token, or marker.
    pub token: Option<String>,
    /// The most entries.
    pub most: usize,
    /// Whether names are percent-encoded in the answer.
    pub encode: bool,
    /// Whether it is the second form of the call.
    pub second: bool,
}

/// A call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// HeadBucket.
    HeadBucket(String),
    /// GetBucketLocation.
    Location(String),
    /// ListObjectsV2 and ListObjects.
    List(Listing),
    /// DeleteObjects.
    DeleteMany(String),
    /// HeadObject.
    Head(ObjectName),
    /// GetObject.
    Get(ObjectName, Option<Range>),
    /// PutObject.
    Put(ObjectName),
    /// CopyObject: from there to here.
    Copy(ObjectName, ObjectName),
    /// DeleteObject.
    Delete(ObjectName),
    /// CreateMultipartUpload.
    Begin(ObjectName),
    /// UploadPart.
    Part(ObjectName, PartOf),
    /// UploadPartCopy.
    PartCopy(ObjectName, PartOf, ObjectName, Option<Range>),
    /// CompleteMultipartUpload.
    Complete(ObjectName, String),
    /// AbortMultipartUpload.
    Abort(ObjectName, String),
}

/// Which part of which upload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartOf {
    /// The store's name of the upload.
    pub upload: String,
    /// From 1.
    pub number: u32,
}

/// Headers that would change what a store does, and that a store cannot do with ciphertext of ours or is not asked to.
const REFUSED: [&str; 3] = [
    "x-amz-server-side-encryption-customer-",
    "x-amz-copy-source-server-side-encryption-",
    "x-amz-object-lock-",
];

impl Call {
    /// Reads method, path (as it was sent), query and headers.
    pub fn parse(method: &Method, path: &str, query: &str, headers: &HeaderMap) -> Result<Self, Refusal> {
        if let Some(name) =
            headers.keys().find(|name| REFUSED.iter().any(|refused| name.as_str().starts_with(refused)))
        {
            return Err(Refusal::unsupported(&format!("the header {name}")));
        }
        let query = Query::parse(query)?;
        let path = path.strip_prefix('/').ok_or_else(|| Refusal::malformed("the path begins with no /"))?;
        let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
        let (bucket, key) = (text(bucket)?, text(key)?);
        if bucket.is_empty() {
            return Err(Refusal::unsupported("listing buckets"));
        }
        if key.is_empty() {
            return Self::of_bucket(method, bucket, &query);
        }
        let name = ObjectName::new(&bucket, &key)?;
        let range = header(headers, RANGE.as_str()).and_then(Range::parse);
        let upload = query.get("uploadId").map(str::to_owned);
        let source = header(headers, "x-amz-copy-source").map(source).transpose()?;
        let known = ["uploads", "uploadId", "partNumber", "x-id"];
        query.only(&known, |own| own.starts_with("response-"))?;
        match (method.as_str(), upload, query.get("partNumber"), source) {
            ("HEAD", None, None, _) => Ok(Self::Head(name)),
            ("GET", None, None, _) if query.get("uploads").is_none() => Ok(Self::Get(name, range)),
            ("PUT", None, None, None) => Ok(Self::Put(name)),
            ("PUT", None, None, Some(source)) => Ok(Self::Copy(source, name)),
            ("PUT", Some(upload), Some(number), source) => {
                let number = number.parse().ok().filter(|number| (1..=9999).contains(number));
                let number = number.ok_or_else(|| {
                    let why = "a part's number is from 1 to 9999 here: the last one that stores take is the gateway's";
                    Refusal::new(StatusCode::BAD_REQUEST, "InvalidArgument", "objects.parts", why)
                })?;
                let part = PartOf { upload, number };
                Ok(match source {
                    Some(source) => {
                        let range = header(headers, "x-amz-copy-source-range").and_then(Range::parse);
                        Self::PartCopy(name, part, source, range)
                    }
                    None => Self::Part(name, part),
                })
            }
            ("DELETE", None, None, _) => Ok(Self::Delete(name)),
            ("DELETE", Some(upload), None, _) => Ok(Self::Abort(name, upload)),
            ("POST", None, None, _) if query.get("uploads").is_some() => Ok(Self::Begin(name)),
            ("POST", Some(upload), None, _) => Ok(Self::Complete(name, upload)),
            _ => Err(Refusal::unsupported(&format!("{method} of an object with this query"))),
        }
    }

    fn of_bucket(method: &Method, bucket: String, query: &Query) -> Result<Self, Refusal> {
        match method.as_str() {
            "HEAD" if query.0.is_empty() => Ok(Self::HeadBucket(bucket)),
            "GET" if query.get("location").is_some() => Ok(Self::Location(bucket)),
            "POST" if query.get("delete").is_some() => Ok(Self::DeleteMany(bucket)),
            "GET" => {
                let known = [
                    "list-type",
                    "prefix",
                    "delimiter",
                    "start-after",
                    "continuation-token",
                    "max-keys",
                    "marker",
                    "encoding-type",
                    "fetch-owner",
                    "x-id",
                ];
                query.only(&known, |_| false)?;
                let second = query.get("list-type") == Some("2");
                let own = |name: &str| query.get(name).unwrap_or_default().to_owned();
                let most = match query.get("max-keys") {
                    None | Some("") => 1000,
                    Some(text) => text.parse().map_err(|_| Refusal::malformed("max-keys is no number"))?,
                };
                Ok(Self::List(Listing {
                    bucket,
                    prefix: own("prefix"),
                    delimiter: own("delimiter"),
                    after: if second { own("start-after") } else { own("marker") },
                    token: query.get("continuation-token").filter(|_| second).map(str::to_owned),
                    most: most.min(1000),
                    encode: query.get("encoding-type") == Some("url"),
                    second,
                }))
            }
            _ => Err(Refusal::unsupported(&format!("{method} of a bucket with this query"))),
        }
    }
}

/// A query's pairs, decoded.
struct Query(Vec<(String, String)>);

impl Query {
    fn parse(query: &str) -> Result<Self, Refusal> {
        let pairs = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((text(&name.replace('+', " "))?, text(&value.replace('+', " "))?))
        });
        pairs.collect::<Result<_, Refusal>>().map(Self)
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    /// Anything else may change what is asked for.
    fn only(&self, known: &[&str], more: impl Fn(&str) -> bool) -> Result<(), Refusal> {
        match self.0.iter().find(|(own, _)| !known.contains(&own.as_str()) && !more(own)) {
            Some((other, _)) => Err(Refusal::unsupported(&format!("the query {other}"))),
            None => Ok(()),
        }
    }
}

fn text(encoded: &str) -> Result<String, Refusal> {
    String::from_utf8(decoded(encoded)).map_err(|_| {
        Refusal::new(StatusCode::BAD_REQUEST, "InvalidURI", "objects.name", "the address is not UTF-8")
    })
}

/// `/bucket/key`, percent-encoded.
fn source(header: &str) -> Result<ObjectName, Refusal> {
    if header.contains('?') {
        return Err(Refusal::unsupported("copying a version"));
    }
    let path = text(header)?;
    let path = path.strip_prefix('/').unwrap_or(&path);
    let (bucket, key) =
        path.split_once('/').ok_or_else(|| Refusal::malformed("x-amz-copy-source has no key"))?;
    Ok(ObjectName::new(bucket, key)?)
}

/// A header's text.
pub(crate) fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(method: &str, target: &str, headers: &[(&'static str, &str)]) -> Result<Call, Refusal> {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let headers =
            headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        Call::parse(&method.parse().unwrap(), path, query, &headers)
    }

    fn name(key: &str) -> ObjectName {
        ObjectName::new("b", key).unwrap()
    }

    #[test]
    fn calls_are_read() {
        assert_eq!(parse("HEAD", "/b", &[]).unwrap(), Call::HeadBucket("b".into()));
        assert_eq!(parse("GET", "/b/?location=", &[]).unwrap(), Call::Location("b".into()));
        assert_eq!(
            parse("GET", "/b/a%20%C3%BC/./../c?x-id=GetObject", &[]).unwrap(),
            Call::Get(name("a ü/./../c"), None)
        );
        let ranged = parse("GET", "/b/k", &[("range", "bytes=1-2")]).unwrap();
        assert_eq!(ranged, Call::Get(name("k"), Some(Range::Between(1, 2))));
        let copied = parse("PUT", "/b/k", &[("x-amz-copy-source", "b/o%2B")]).unwrap();
        assert_eq!(copied, Call::Copy(name("o+"), name("k")));
        let part = PartOf { upload: "u/+".into(), number: 9999 };
        assert_eq!(
            parse("PUT", "/b/k?partNumber=9999&uploadId=u%2F%2B", &[]).unwrap(),
            Call::Part(name("k"), part)
        );
        assert_eq!(parse("POST", "/b/k?uploads", &[]).unwrap(), Call::Begin(name("k")));
        let Call::List(own) =
            parse("GET", "/b?list-type=2&prefix=a%2F&max-keys=5000&encoding-type=url", &[]).unwrap()
        else {
            panic!("a listing")
        };
        assert_eq!((own.prefix.as_str(), own.most, own.encode, own.second), ("a/", 1000, true, true));
    }

    #[test]
    fn what_is_not_served_is_refused_by_name() {
        for (method, target, code) in [
            ("GET", "/", "objects.unsupported"),
            ("PUT", "/b", "objects.unsupported"),
            ("GET", "/b?versions", "objects.unsupported"),
            ("GET", "/b/k?acl", "objects.unsupported"),
            ("GET", "/b/k?versionId=1", "objects.unsupported"),
            ("GET", "/b/k?X-Amz-Signature=1", "objects.unsupported"),
            ("PUT", "/b/k?tagging", "objects.unsupported"),
            ("GET", "/b/k?uploadId=u", "objects.unsupported"),
            ("PUT", "/b/k?partNumber=10000&uploadId=u", "objects.parts"),
            ("PUT", "/b/k?partNumber=0&uploadId=u", "objects.parts"),
            ("GET", "/b/%ff", "objects.name"),
            ("GET", "/b..c/k", "objects.name"),
            ("GET", "/b?max-keys=many", "objects.request"),
        ] {
            assert_eq!(parse(method, target, &[]).unwrap_err().code, code, "{target}");
        }
        let own = [("x-amz-server-side-encryption-customer-key", "k")];
        assert_eq!(parse("PUT", "/b/k", &own).unwrap_err().code, "objects.unsupported");
    }

    #[test]
    fn ranges_are_of_what_there_is() {
        for (text, size, expected) in [
            ("bytes=0-0", 5, Some(0..1)),
            ("bytes=3-99", 5, Some(3..5)),
            ("bytes=3-", 5, Some(3..5)),
            ("bytes=-2", 5, Some(3..5)),
            ("bytes=-9", 5, Some(0..5)),
            ("bytes=5-", 5, None),
            ("bytes=-0", 5, None),
            ("bytes=0-", 0, None),
        ] {
            assert_eq!(Range::parse(text).unwrap().of(size).ok(), expected, "{text}");
        }
        for text in ["bytes=1-0", "bytes=a-", "bytes=-", "bytes=0-1,3-4", "lines=0-1", "bytes=+1-2"] {
            assert_eq!(Range::parse(text), None, "{text}");
        }
    }
}
