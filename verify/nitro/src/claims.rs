//! What a proven document says, by the names that the document itself uses.

use coffer_verify_api::Question;
use serde_json::{Map, Value};

use crate::document::Document;
use crate::{BoundField, checks};

pub(crate) fn json(document: &Document, field: BoundField, question: &Question<'_>) -> Map<String, Value> {
    let mut claims = Map::new();
    let mut say = |name: &str, value: Value| claims.insert(name.to_owned(), value);
    say("module_id", document.module_id.as_str().into());
    say("timestamp", document.timestamp.into());
    say("digest", "SHA384".into());
    say("debug", document.is_debug().into());
    for (pcr, value) in &document.pcrs {
        say(&format!("pcr{pcr}"), value.hex().into());
    }
    for (name, value) in [
        ("public_key", document.public_key.as_deref()),
        ("user_data", document.user_data.as_deref()),
        ("nonce", document.nonce.as_deref()),
        ("report_data", checks::bound(document, field)),
    ] {
        if let Some(value) = value {
            say(name, hex::encode(value).into());
        }
    }
    if let Some(digest) = question.init_data {
        say("init_data", digest.hex().into());
    }
    claims
}
