//! The documents of S3 that are read and written here.
//!
//! What a store sends is hostile: bounded by its reader, no entity is opened but the five of XML and characters by
//! number, and nothing is believed of it.

use quick_xml::Reader;
use quick_xml::escape::escape;
use quick_xml::events::Event;

use crate::Refusal;

/// Deeper than any document of S3.
const DEPTH: usize = 8;

/// Calls `found` with the path and the text of each element that has no elements.
fn walk(text: &str, mut found: impl FnMut(&[String], &str)) -> Result<(), String> {
    let mut reader = Reader::from_str(text);
    let (mut path, mut content, mut leaf) = (Vec::<String>::new(), String::new(), true);
    loop {
        match reader.read_event().map_err(|error| error.to_string())? {
            Event::Start(start) => {
                if path.len() >= DEPTH {
                    return Err("it is nested too deeply".into());
                }
                path.push(name(start.local_name().as_ref())?);
                content.clear();
                leaf = true;
            }
            Event::Empty(empty) => {
                path.push(name(empty.local_name().as_ref())?);
                found(&path, "");
                path.pop();
                leaf = false;
            }
            Event::Text(own) => content.push_str(&own.decode().map_err(|error| error.to_string())?),
            Event::CData(own) => content.push_str(&own.decode().map_err(|error| error.to_string())?),
            Event::GeneralRef(own) => {
                let known = own.resolve_char_ref().map_err(|error| error.to_string())?;
                let named = || match own.decode().ok()?.as_ref() {
                    "amp" => Some('&'),
                    "lt" => Some('<'),
                    "gt" => Some('>'),
                    "quot" => Some('"'),
                    "apos" => Some('\''),
                    _ => None,
                };
                content.push(known.or_else(named).ok_or("it has an entity of its own")?);
            }
            Event::End(_) => {
                if leaf {
                    found(&path, &content);
                }
                if path.pop().is_none() {
                    return Err("it ends more than it began".into());
                }
                content.clear();
                leaf = false;
            }
            Event::DocType(_) => return Err("it has a document type".into()),
            Event::Eof if path.is_empty() => return Ok(()),
            Event::Eof => return Err("it is cut".into()),
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) => {}
        }
    }
}

fn name(bytes: &[u8]) -> Result<String, String> {
    String::from_utf8(bytes.to_vec()).map_err(|_| "a name is not UTF-8".into())
}

fn path_is(path: &[String], names: &[&str]) -> bool {
    path.len() == names.len() + 1 && path.iter().skip(1).zip(names).all(|(own, name)| own == name)
}

/// One object of a store's listing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    /// Its sealed key.
    pub key: String,
    /// Its length.
    pub size: u64,
    /// The store's tag, without quotes.
    pub etag: String,
    /// When it was written, as the store says.
    pub modified: String,
}

/// A page of a store's listing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Objects.
    pub objects: Vec<Stored>,
    /// Sealed names of folders.
    pub folders: Vec<String>,
    /// Where the next page begins.
    pub next: Option<String>,
}

impl Page {
    /// Reads `ListBucketResult` of ListObjectsV2.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        let (mut own, mut object, mut more, mut token) = (Self::default(), Stored::default(), false, None);
        let mut broken = None;
        let walked = walk(text, |path, text| {
            let is = |names: &[&str]| path_is(path, names);
            if is(&["Contents", "Key"]) {
                // Each object's key comes first, as S3 writes it; the others follow it in any order.
                own.objects.push(std::mem::take(&mut object));
                if let Some(last) = own.objects.last_mut() {
                    *last = Stored { key: text.into(), ..Stored::default() };
                }
            } else if path.len() == 3 && path.get(1).is_some_and(|name| name == "Contents") {
                let Some(last) = own.objects.last_mut() else { return };
                match path.get(2).map(String::as_str) {
                    Some("Size") => match text.parse() {
                        Ok(size) => last.size = size,
                        Err(_) => broken = Some("a size is no number"),
                    },
                    Some("ETag") => last.etag = text.trim_matches('"').into(),
                    Some("LastModified") => last.modified = text.into(),
                    _ => {}
                }
            } else if is(&["CommonPrefixes", "Prefix"]) {
                own.folders.push(text.into());
            } else if is(&["IsTruncated"]) {
                more = text == "true";
            } else if is(&["NextContinuationToken"]) {
                token = Some(text.to_owned());
            }
        });
        walked.map_err(|why| Refusal::answer(format!("the store's listing cannot be read: {why}")))?;
        if let Some(why) = broken {
            return Err(Refusal::answer(format!("the store's listing cannot be read: {why}")));
        }
        if more && token.is_none() {
            return Err(Refusal::answer("the store's listing goes on nowhere"));
        }
        own.next = token.filter(|_| more);
        Ok(own)
    }
}

/// The parts that a client completes an upload with: numbers and tags.
#[derive(Debug, PartialEq, Eq)]
pub struct Completion(pub Vec<(u32, String)>);

impl Completion {
    /// Reads `CompleteMultipartUpload`.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        let (mut parts, mut number, mut tag) = (Vec::new(), None, None);
        let walked = walk(text, |path, text| {
            if path_is(path, &["Part", "PartNumber"]) {
                number = text.trim().parse::<u32>().ok();
            } else if path_is(path, &["Part", "ETag"]) {
                tag = Some(text.trim().trim_matches('"').to_owned());
            }
            if let (Some(own), Some(tag_of)) = (number, tag.take_if(|_| number.is_some())) {
                parts.push((own, tag_of));
                number = None;
            }
        });
        let malformed = |why: &str| {
            let why = format!("the list of parts cannot be read: {why}");
            Refusal::new(hyper::StatusCode::BAD_REQUEST, "MalformedXML", "objects.request", why)
        };
        walked.map_err(|why| malformed(&why))?;
        if parts.is_empty() {
            return Err(malformed("it lists none"));
        }
        if !parts.iter().zip(parts.iter().skip(1)).all(|((one, _), (other, _))| one < other) {
            let why = "the parts are not in ascending order";
            return Err(Refusal::new(
                hyper::StatusCode::BAD_REQUEST,
                "InvalidPartOrder",
                "objects.request",
                why,
            ));
        }
        Ok(Self(parts))
    }
}

/// The keys that a client deletes at once.
#[derive(Debug, PartialEq, Eq)]
pub struct Deletions {
    /// The keys.
    pub keys: Vec<String>,
    /// Whether only failures are answered.
    pub quiet: bool,
}

impl Deletions {
    /// Reads `Delete`.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        let mut own = Self { keys: Vec::new(), quiet: false };
        let walked = walk(text, |path, text| {
            if path_is(path, &["Object", "Key"]) {
                own.keys.push(text.into());
            } else if path_is(path, &["Quiet"]) {
                own.quiet = text.trim() == "true";
            }
        });
        let malformed = |why: &str| {
            let why = format!("the list of keys cannot be read: {why}");
            Refusal::new(hyper::StatusCode::BAD_REQUEST, "MalformedXML", "objects.request", why)
        };
        walked.map_err(|why| malformed(&why))?;
        if own.keys.is_empty() || own.keys.len() > 1000 {
            return Err(malformed("it has none, or more than 1000"));
        }
        Ok(own)
    }
}

/// The text of one element of a short document of the store. Roots have several names among stores.
pub(crate) fn element(text: &str, wanted: &str) -> Option<String> {
    let mut found = None;
    let walked = walk(text, |path, text| {
        if path_is(path, &[wanted]) {
            found.get_or_insert_with(|| text.to_owned());
        }
    });
    walked.ok().and(found)
}

/// What a document says that is an error.
pub(crate) fn error_word(text: &str) -> Option<String> {
    let mut found = None;
    let walked = walk(text, |path, text| {
        if path.first().is_some_and(|own| own == "Error") && path_is(path, &["Code"]) {
            found.get_or_insert_with(|| text.to_owned());
        }
    });
    walked.ok().and(found)
}

/// Writes a document.
pub(crate) struct Writer {
    text: String,
    root: &'static str,
}

impl Writer {
    pub(crate) fn new(root: &'static str) -> Self {
        let space = match root {
            "Error" => "",
            _ => " xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"",
        };
        Self { text: format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<{root}{space}>"), root }
    }

    pub(crate) fn put(&mut self, name: &str, value: &str) -> &mut Self {
        self.text.push_str(&format!("<{name}>{}</{name}>", escape(value)));
        self
    }

    pub(crate) fn within(&mut self, name: &str, inside: impl FnOnce(&mut Self) -> &mut Self) -> &mut Self {
        self.text.push_str(&format!("<{name}>"));
        inside(self);
        self.text.push_str(&format!("</{name}>"));
        self
    }

    pub(crate) fn finish(mut self) -> String {
        self.text.push_str(&format!("</{}>", self.root));
        self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_is_read_and_what_is_none_is_refused() {
        let text = "<?xml version=\"1.0\"?><ListBucketResult xmlns=\"x\"><IsTruncated>true</IsTruncated>\
            <Contents><Key>a&amp;b</Key><LastModified>2026</LastModified><ETag>&quot;e-1&quot;</ETag><Size>7</Size>\
            <Owner><ID>1</ID></Owner></Contents><Contents><Key>c&#47;d</Key><Size>0</Size></Contents>\
            <CommonPrefixes><Prefix>f/</Prefix></CommonPrefixes><NextContinuationToken>n</NextContinuationToken>\
            </ListBucketResult>";
        let page = Page::parse(text).unwrap();
        let first = Stored { key: "a&b".into(), size: 7, etag: "e-1".into(), modified: "2026".into() };
        assert_eq!(page.objects, [first, Stored { key: "c/d".into(), ..Stored::default() }]);
        assert_eq!((page.folders, page.next), (vec!["f/".to_owned()], Some("n".to_owned())));
        for text in [
            "<A><IsTruncated>true</IsTruncated></A>",
            "<A><Contents><Key>a</Key><Size>-1</Size></Contents></A>",
            "<A><B>",
            "</A>",
            "<A>&own;</A>",
            "<!DOCTYPE A [<!ENTITY own \"x\">]><A/>",
            "<a><a><a><a><a><a><a><a><a></a></a></a></a></a></a></a></a></a>",
        ] {
            assert_eq!(Page::parse(text).unwrap_err().code, "objects.store-answer", "{text}");
        }
    }

    #[test]
    fn what_clients_list_is_read_in_either_order() {
        let text = "<CompleteMultipartUpload><Part><ETag>\"a\"</ETag><PartNumber>1</PartNumber></Part>\
            <Part><PartNumber>3</PartNumber><ETag>b</ETag><ChecksumCRC32>x</ChecksumCRC32></Part></CompleteMultipartUpload>";
        assert_eq!(Completion::parse(text).unwrap().0, [(1, "a".to_owned()), (3, "b".to_owned())]);
        let order = "<C><Part><PartNumber>2</PartNumber><ETag>b</ETag></Part><Part><PartNumber>2</PartNumber><ETag>b</ETag></Part></C>";
        assert_eq!(Completion::parse(order).unwrap_err().s3, "InvalidPartOrder");
        assert_eq!(Completion::parse("<C/>").unwrap_err().s3, "MalformedXML");
        let text = "<Delete><Quiet>true</Quiet><Object><Key>a</Key></Object><Object><Key>b &lt;</Key></Object></Delete>";
        let found = Deletions::parse(text).unwrap();
        assert_eq!((found.keys, found.quiet), (vec!["a".to_owned(), "b <".to_owned()], true));
        assert_eq!(Deletions::parse("<Delete/>").unwrap_err().s3, "MalformedXML");
        let text = "<Error><Code>NoSuchKey</Code></Error>";
        assert_eq!(error_word(text).as_deref(), Some("NoSuchKey"));
        assert_eq!(error_word("<Other><Code>NoSuchKey</Code></Other>"), None);
        assert_eq!(element("<Other><ETag>e</ETag></Other>", "ETag").as_deref(), Some("e"));
    }

    #[test]
    fn what_is_written_is_escaped() {
        let mut own = Writer::new("Error");
        own.put("Code", "a<b").within("More", |more| more.put("Key", "&\""));
        assert!(
            own.finish().ends_with("<Error><Code>a&lt;b</Code><More><Key>&amp;&quot;</Key></More></Error>")
        );
    }
}
