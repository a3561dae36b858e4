//! The subset of XML that manifests are written in, and its canonical forms.
//!
//! Held: elements, attributes, namespaces, text, the five predefined entities and character references. Refused: DTDs,
//! other entities, processing instructions, comments, CDATA, `xml:` attributes, undeclared or undone namespaces, and
//! anything over the bounds. Manifests have none of it, and without it nothing can hide between what is signed and
//! what is read. Canonical forms: Canonical XML 1.0 and 1.1, which are the same on this subset, and Exclusive XML
//! Canonicalization 1.0 without a list of inclusive prefixes, each without comments.

use std::collections::BTreeMap;

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

/// A manifest has about 25 KiB.
pub const MAX_DOCUMENT: usize = 1 << 20;
const MAX_DEPTH: usize = 16;
const MAX_ELEMENTS: usize = 8192;
const MAX_ATTRIBUTES: usize = 128;
/// In scope at once. Every element knows what is in scope, so what is in scope is short.
const MAX_NAMESPACES: usize = 16;
const MAX_PREFIX: usize = 64;
const MAX_NAMESPACE: usize = 256;

/// Why bytes are not such a document.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum XmlError {
    /// Longer than any manifest.
    #[error("the document has {0} bytes; at most {MAX_DOCUMENT} are read")]
    TooLong(usize),
    /// Not UTF-8.
    #[error("the document is not UTF-8")]
    NotText,
    /// Not well-formed.
    #[error("the document is not well-formed: {0}")]
    Form(String),
    /// Well-formed perhaps, but not of the subset.
    #[error("the document has {0}, which no manifest has")]
    Outside(&'static str),
    /// Over a bound.
    #[error("the document has too many {0}")]
    TooMany(&'static str),
}

/// A name with its prefix and what the prefix stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Name {
    pub(crate) prefix: String,
    pub(crate) local: String,
    /// Empty if there is none.
    pub(crate) namespace: String,
}

/// An element.
#[derive(Clone, Debug)]
pub(crate) struct Element {
    pub(crate) name: Name,
    attributes: Vec<(Name, String)>,
    /// What is declared here, by prefix.
    declared: BTreeMap<String, String>,
    pub(crate) children: Vec<Node>,
}

/// What an element holds.
#[derive(Clone, Debug)]
pub(crate) enum Node {
    Element(Element),
    Text(String),
}

/// Namespaces by prefix.
pub(crate) type Scope = BTreeMap<String, String>;

impl Element {
    /// Reads a document; gives its root.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, XmlError> {
        if bytes.len() > MAX_DOCUMENT {
            return Err(XmlError::TooLong(bytes.len()));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| XmlError::NotText)?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let good = |c: char| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..);
        if !text.chars().all(good) {
            return Err(XmlError::Form("a control character".into()));
        }
        // XML 1.0, section 2.11: ends of lines.
        build(&text.replace("\r\n", "\n").replace('\r', "\n"))
    }

    /// The child elements.
    pub(crate) fn elements(&self) -> impl Iterator<Item = &Self> {
        self.children.iter().filter_map(|node| match node {
            Node::Element(element) => Some(element),
            Node::Text(_) => None,
        })
    }

    /// The child elements of this name.
    pub(crate) fn named<'a>(&'a self, namespace: &'a str, local: &'a str) -> impl Iterator<Item = &'a Self> {
        self.elements().filter(move |element| element.is(namespace, local))
    }

    /// The one child element of this name; none if there are more.
    pub(crate) fn only(&self, namespace: &str, local: &str) -> Option<&Self> {
        let mut found = self.elements().filter(|element| element.is(namespace, local));
        let first = found.next();
        first.filter(|_| found.next().is_none())
    }

    pub(crate) fn is(&self, namespace: &str, local: &str) -> bool {
        self.name.namespace == namespace && self.name.local == local
    }

    /// How many elements of this name there are, here and below.
    pub(crate) fn count(&self, namespace: &str, local: &str) -> usize {
        let below: usize = self.elements().map(|element| element.count(namespace, local)).sum();
        below.saturating_add(usize::from(self.is(namespace, local)))
    }

    /// An attribute, by what its prefix stands for; unprefixed ones have no namespace.
    pub(crate) fn attribute(&self, namespace: &str, local: &str) -> Option<&str> {
        let found =
            self.attributes.iter().find(|(name, _)| name.namespace == namespace && name.local == local);
        found.map(|(_, value)| value.as_str())
    }

    /// The text in it, if it holds nothing but text.
    pub(crate) fn text(&self) -> Option<String> {
        let text = |node: &Node| match node {
            Node::Text(text) => Some(text.clone()),
            Node::Element(_) => None,
        };
        self.children.iter().map(text).collect()
    }

    /// What is in scope inside this element, if `outer` is outside.
    pub(crate) fn scope(&self, outer: &Scope) -> Scope {
        let mut scope = outer.clone();
        scope.extend(self.declared.clone());
        scope
    }

    /// The canonical form. `outer` is what the element's parent has in scope; `left_out` is a child of this element
    /// that is not there for who signs.
    pub(crate) fn canonical(&self, form: Form, outer: &Scope, left_out: Option<&Self>) -> Vec<u8> {
        let mut out = String::new();
        self.write(form, outer, &Scope::new(), left_out, &mut out);
        out.into_bytes()
    }

    /// Recursion is bounded by the depth that reading allows.
    fn write(&self, form: Form, outer: &Scope, rendered: &Scope, left_out: Option<&Self>, out: &mut String) {
        let scope = self.scope(outer);
        let used = |prefix: &String| {
            self.name.prefix == *prefix
                || (!prefix.is_empty() && self.attributes.iter().any(|(name, _)| name.prefix == *prefix))
        };
        let mut inner = rendered.clone();
        let name = self.name.qualified();
        out.push('<');
        out.push_str(&name);
        for (prefix, namespace) in &scope {
            let wanted = form == Form::Inclusive || used(prefix);
            if wanted && rendered.get(prefix) != Some(namespace) {
                out.push_str(if prefix.is_empty() { " xmlns" } else { " xmlns:" });
                out.push_str(prefix);
                out.push_str("=\"");
                escape_attribute(namespace, out);
                out.push('"');
                inner.insert(prefix.clone(), namespace.clone());
            }
        }
        let mut attributes: Vec<&(Name, String)> = self.attributes.iter().collect();
        attributes.sort_by(|(a, _), (b, _)| (&a.namespace, &a.local).cmp(&(&b.namespace, &b.local)));
        for (attribute, value) in attributes {
            out.push(' ');
            out.push_str(&attribute.qualified());
            out.push_str("=\"");
            escape_attribute(value, out);
            out.push('"');
        }
        out.push('>');
        for child in &self.children {
            match child {
                Node::Text(text) => escape_text(text, out),
                Node::Element(child) if left_out.is_some_and(|left| std::ptr::eq(left, child)) => {}
                Node::Element(child) => child.write(form, &scope, &inner, None, out),
            }
        }
        out.push_str("</");
        out.push_str(&name);
        out.push('>');
    }
}

/// Which namespaces an element shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// All that are in scope.
    Inclusive,
    /// Those that it uses.
    Exclusive,
}

impl Name {
    fn qualified(&self) -> String {
        match self.prefix.is_empty() {
            true => self.local.clone(),
            false => format!("{}:{}", self.prefix, self.local),
        }
    }
}

fn escape_attribute(value: &str, out: &mut String) {
    for c in value.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '"' => out.push_str("&quot;"),
            '\t' => out.push_str("&#x9;"),
            '\n' => out.push_str("&#xA;"),
            '\r' => out.push_str("&#xD;"),
            other => out.push(other),
        }
    }
}

fn escape_text(text: &str, out: &mut String) {
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\r' => out.push_str("&#xD;"),
            other => out.push(other),
        }
    }
}

fn build(text: &str) -> Result<Element, XmlError> {
    let mut reader = Reader::from_str(text);
    let mut open: Vec<(Element, Scope)> = Vec::new();
    let mut root: Option<Element> = None;
    let mut elements = 0_usize;
    let mut first = true;
    loop {
        let event = reader.read_event().map_err(|cause| XmlError::Form(cause.to_string()))?;
        let decl_may_stand = std::mem::replace(&mut first, false);
        match event {
            Event::Eof => break,
            Event::Decl(_) if decl_may_stand => {}
            Event::Start(start) | Event::Empty(start) if root.is_some() && open.is_empty() => {
                return Err(XmlError::Form(format!("a second root, {:?}", start.name())));
            }
            Event::Start(start) => {
                elements = counted(elements, open.len())?;
                let (element, scope) = element(&start, open.last().map(|(_, scope)| scope))?;
                open.push((element, scope));
            }
            Event::Empty(start) => {
                elements = counted(elements, open.len())?;
                let (element, _) = element(&start, open.last().map(|(_, scope)| scope))?;
                close(element, &mut open, &mut root);
            }
            Event::End(_) => {
                let (element, _) = open.pop().ok_or(XmlError::Form("an end without a beginning".into()))?;
                close(element, &mut open, &mut root);
            }
            Event::Text(text) => {
                let text = text.into_inner();
                let text = std::str::from_utf8(&text).map_err(|_| XmlError::NotText)?;
                if text.contains("]]>") {
                    return Err(XmlError::Form("]]> in text".into()));
                }
                add_text(text, &mut open)?;
            }
            Event::GeneralRef(reference) => {
                let name = reference.into_inner();
                let name = std::str::from_utf8(&name).map_err(|_| XmlError::NotText)?;
                add_text(&character(name)?.to_string(), &mut open)?;
            }
            Event::Comment(_) => return Err(XmlError::Outside("a comment")),
            Event::CData(_) => return Err(XmlError::Outside("a CDATA section")),
            Event::DocType(_) => return Err(XmlError::Outside("a document type")),
            Event::PI(_) | Event::Decl(_) => return Err(XmlError::Outside("a processing instruction")),
        }
    }
    match (open.is_empty(), root) {
        (true, Some(root)) => Ok(root),
        _ => Err(XmlError::Form("the root element does not end".into())),
    }
}

fn counted(elements: usize, depth: usize) -> Result<usize, XmlError> {
    match (elements < MAX_ELEMENTS, depth < MAX_DEPTH) {
        (true, true) => Ok(elements.saturating_add(1)),
        (false, _) => Err(XmlError::TooMany("elements")),
        (_, false) => Err(XmlError::TooMany("levels")),
    }
}

fn close(element: Element, open: &mut [(Element, Scope)], root: &mut Option<Element>) {
    match open.last_mut() {
        Some((parent, _)) => parent.children.push(Node::Element(element)),
        None => *root = Some(element),
    }
}

fn add_text(text: &str, open: &mut [(Element, Scope)]) -> Result<(), XmlError> {
    match open.last_mut() {
        None if text.chars().all(|c| matches!(c, ' ' | '\t' | '\n')) => Ok(()),
        None => Err(XmlError::Form("text outside the root element".into())),
        Some((parent, _)) => {
            match parent.children.last_mut() {
                Some(Node::Text(before)) => before.push_str(text),
                _ => parent.children.push(Node::Text(text.to_owned())),
            }
            Ok(())
        }
    }
}

/// What an entity or a character reference stands for.
fn character(name: &str) -> Result<char, XmlError> {
    let number = match name {
        "amp" => return Ok('&'),
        "lt" => return Ok('<'),
        "gt" => return Ok('>'),
        "quot" => return Ok('"'),
        "apos" => return Ok('\''),
        _ => match name.strip_prefix("#x") {
            Some(digits) => u32::from_str_radix(digits, 16).ok(),
            None => name.strip_prefix('#').and_then(|digits| digits.parse().ok()),
        },
    };
    let good = |c: &char| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..);
    number.and_then(char::from_u32).filter(good).ok_or(XmlError::Outside("an entity"))
}

fn element(start: &BytesStart<'_>, outer: Option<&Scope>) -> Result<(Element, Scope), XmlError> {
    let mut declared = Scope::new();
    let mut plain: Vec<(String, String, String)> = Vec::new();
    for attribute in start.attributes() {
        let attribute = attribute.map_err(|cause| XmlError::Form(cause.to_string()))?;
        let raw = std::str::from_utf8(&attribute.value).map_err(|_| XmlError::NotText)?;
        let value = attribute_value(raw)?;
        let (prefix, local) = split(attribute.key.as_ref())?;
        match (prefix.as_str(), local.as_str()) {
            ("xml", _) | (_, "xml") => return Err(XmlError::Outside("an xml: attribute")),
            ("", "xmlns") | ("xmlns", _) if value.is_empty() => {
                return Err(XmlError::Outside("a namespace that is undone"));
            }
            ("xmlns", "xmlns") => return Err(XmlError::Outside("a prefix xmlns")),
            ("", "xmlns") | ("xmlns", _) if value.len() > MAX_NAMESPACE || local.len() > MAX_PREFIX => {
                return Err(XmlError::TooMany("letters in a namespace"));
            }
            ("", "xmlns") => {
                declared.insert(String::new(), value);
            }
            ("xmlns", _) => {
                declared.insert(local, value);
            }
            _ => plain.push((prefix, local, value)),
        }
        if plain.len() > MAX_ATTRIBUTES || declared.len() > MAX_NAMESPACES {
            return Err(XmlError::TooMany("attributes"));
        }
    }
    let mut scope = outer.cloned().unwrap_or_default();
    scope.extend(declared.clone());
    if scope.len() > MAX_NAMESPACES {
        return Err(XmlError::TooMany("namespaces"));
    }
    let namespace = |prefix: &str| {
        scope.get(prefix).cloned().ok_or_else(|| XmlError::Form(format!("prefix {prefix:?} is not declared")))
    };
    let (prefix, local) = split(start.name().as_ref())?;
    let own = match prefix.is_empty() {
        true => scope.get("").cloned().unwrap_or_default(),
        false => namespace(&prefix)?,
    };
    let mut attributes: Vec<(Name, String)> = Vec::new();
    for (prefix, local, value) in plain {
        let namespace = if prefix.is_empty() { String::new() } else { namespace(&prefix)? };
        let twice = |(other, _): &(Name, String)| other.namespace == namespace && other.local == local;
        if attributes.iter().any(twice) {
            return Err(XmlError::Form(format!("two attributes {local:?}")));
        }
        attributes.push((Name { prefix, local, namespace }, value));
    }
    let name = Name { prefix, local, namespace: own };
    Ok((Element { name, attributes, declared, children: Vec::new() }, scope))
}

/// XML 1.0, section 3.3.3: white space becomes spaces, references what they stand for.
fn attribute_value(raw: &str) -> Result<String, XmlError> {
    let mut value = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some((before, after)) = rest.split_once('&') {
        plain_value(before, &mut value)?;
        let (name, after) = after.split_once(';').ok_or(XmlError::Form("& in an attribute".into()))?;
        value.push(character(name)?);
        rest = after;
    }
    plain_value(rest, &mut value)?;
    Ok(value)
}

fn plain_value(text: &str, value: &mut String) -> Result<(), XmlError> {
    if text.contains('<') {
        return Err(XmlError::Form("< in an attribute".into()));
    }
    value.extend(text.chars().map(|c| if matches!(c, '\t' | '\n' | '\r') { ' ' } else { c }));
    Ok(())
}

/// Prefix and local name; the letters that manifests use.
fn split(name: &[u8]) -> Result<(String, String), XmlError> {
    let text = std::str::from_utf8(name).map_err(|_| XmlError::NotText)?;
    let (prefix, local) = text.split_once(':').unwrap_or(("", text));
    let good = |part: &str| {
        part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'))
            && part.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_')
    };
    let whole = good(local) && (good(prefix) || !text.contains(':'));
    match whole {
        true => Ok((prefix.to_owned(), local.to_owned())),
        false => Err(XmlError::Form(format!("the name {:?}", text.chars().take(64).collect::<String>()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inclusive(text: &str) -> String {
        let root = Element::parse(text.as_bytes()).unwrap();
        String::from_utf8(root.canonical(Form::Inclusive, &Scope::new(), None)).unwrap()
    }

    #[test]
    fn the_canonical_form_is_that_of_the_recommendation() {
        // After Canonical XML 1.0, sections 3.1, 3.3 and 3.4, as far as the subset goes.
        assert_eq!(inclusive("<?xml version=\"1.0\"?>\r\n<doc>Hello\r\n</doc>\n"), "<doc>Hello\n</doc>");
        assert_eq!(inclusive("<a  b='1'\n a=\"2\"  />"), "<a a=\"2\" b=\"1\"></a>");
        let attributes = "<e5 xmlns:b=\"http://www.ietf.org\" xmlns:a=\"http://www.w3.org\" xmlns=\"http://example.org\" \
                          a:attr=\"out\" b:attr=\"sorted\" attr2=\"all\" attr=\"I'm\"/>";
        assert_eq!(
            inclusive(attributes),
            "<e5 xmlns=\"http://example.org\" xmlns:a=\"http://www.w3.org\" xmlns:b=\"http://www.ietf.org\" \
             attr=\"I'm\" attr2=\"all\" b:attr=\"sorted\" a:attr=\"out\"></e5>"
        );
        assert_eq!(
            inclusive(
                "<doc><text>First&#x0d;&#10;Second</text><value>&#x32;</value><c v='&lt;&quot;&#9;&#10;'>&gt;&amp;\"</c></doc>"
            ),
            "<doc><text>First&#xD;\nSecond</text><value>2</value><c v=\"&lt;&quot;&#x9;&#xA;\">&gt;&amp;\"</c></doc>"
        );
    }

    #[test]
    fn namespaces_are_shown_once_and_exclusively_only_where_used() {
        let text = "<a xmlns=\"d\" xmlns:p=\"x\"><p:b xmlns:p=\"x\" xmlns:q=\"y\"><c/></p:b></a>";
        assert_eq!(inclusive(text), "<a xmlns=\"d\" xmlns:p=\"x\"><p:b xmlns:q=\"y\"><c></c></p:b></a>");
        let root = Element::parse(text.as_bytes()).unwrap();
        let exclusive = String::from_utf8(root.canonical(Form::Exclusive, &Scope::new(), None)).unwrap();
        assert_eq!(exclusive, "<a xmlns=\"d\"><p:b xmlns:p=\"x\"><c></c></p:b></a>");
        let b = root.elements().next().unwrap();
        let inside =
            String::from_utf8(b.canonical(Form::Inclusive, &root.scope(&Scope::new()), None)).unwrap();
        assert_eq!(inside, "<p:b xmlns=\"d\" xmlns:p=\"x\" xmlns:q=\"y\"><c></c></p:b>");
    }

    #[test]
    fn namespaces_cost_no_more_than_the_document_that_declares_them() {
        // Each of the elements would hold the root's namespace again: half a megabyte, eight thousand times.
        let long = format!("<a xmlns='{}'>{}</a>", "n".repeat(1 << 19), "<b/>".repeat(8000));
        assert_eq!(Element::parse(long.as_bytes()).unwrap_err(), XmlError::TooMany("letters in a namespace"));
        let prefix = format!("<a xmlns:{}='n'>{}</a>", "p".repeat(1 << 19), "<b/>".repeat(8000));
        assert_eq!(
            Element::parse(prefix.as_bytes()).unwrap_err(),
            XmlError::TooMany("letters in a namespace")
        );
        let declare = |level: usize| {
            (0..9).map(|one| format!(" xmlns:p{level}x{one}='n{level}x{one}'")).collect::<String>()
        };
        let many = format!("<a{}><a{}/></a>", declare(0), declare(1));
        assert_eq!(Element::parse(many.as_bytes()).unwrap_err(), XmlError::TooMany("namespaces"));
        let few = format!("<a{}><a xmlns:{}='{}'/></a>", declare(0), "p".repeat(64), "n".repeat(256));
        assert!(Element::parse(few.as_bytes()).is_ok());
    }

    #[test]
    fn what_is_outside_of_the_subset_is_refused() {
        let deep = format!("{}{}", "<a>".repeat(17), "</a>".repeat(17));
        let many = format!("<a>{}</a>", "<b/>".repeat(MAX_ELEMENTS));
        let wide: String = (0..130).map(|number| format!(" a{number}=''")).collect();
        let wide = format!("<a{wide}/>");
        for text in [
            "",
            " ",
            "text",
            "<a",
            "<a>",
            "<a></b>",
            "<a/><b/>",
            "<a/>text",
            "x<a/>",
            "<a b=1/>",
            "<a b='1' b='2'/>",
            "<!DOCTYPE a><a/>",
            "<a><!-- c --></a>",
            "<a><?p i?></a>",
            "<a><![CDATA[x]]></a>",
            "<a>&nbsp;</a>",
            "<a b='&x;'/>",
            "<a b='&'/>",
            "<a b='<'/>",
            "<a>&#0;</a>",
            "<a>&#xd800;</a>",
            "<p:a/>",
            "<a p:b=''/>",
            "<a xmlns=''/>",
            "<a xmlns:p=''/>",
            "<a xml:id='1'/>",
            "<a xmlns:xml='x'/>",
            "<a:b:c/>",
            "<:a/>",
            "<a xmlns:p='x' xmlns:q='x' p:b='' q:b=''/>",
            "<a>]]></a>",
            "<a>\u{1}</a>",
            "<\u{e9}/>",
            " <?xml version='1.0'?><a/>",
            &deep,
            &many,
            &wide,
        ] {
            assert!(
                Element::parse(text.as_bytes()).is_err(),
                "{}",
                text.chars().take(60).collect::<String>()
            );
        }
        assert_eq!(
            Element::parse(&vec![b' '; MAX_DOCUMENT + 1]).unwrap_err(),
            XmlError::TooLong(MAX_DOCUMENT + 1)
        );
        assert_eq!(Element::parse(&[b'<', 0xff]).unwrap_err(), XmlError::NotText);
    }
}
