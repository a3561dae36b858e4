//! Those who are responsible for a document or a module.

use coffer_core_cose::cbor::{Map, Value};

use crate::error::CorimError;
use crate::fields::{self, of_uri, optional, required, text, uri};

/// Somebody responsible for a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entity {
    /// Who.
    pub name: String,
    /// A URI that says more.
    pub uri: Option<String>,
    /// For what, by number.
    pub roles: Vec<i64>,
}

impl Entity {
    pub(crate) fn list(value: &Value) -> Result<Vec<Self>, CorimError> {
        let list = value.as_array().ok_or_else(|| CorimError::form("entities", "a list", Some(value)))?;
        list.iter().map(Self::parse).collect()
    }

    fn parse(value: &Value) -> Result<Self, CorimError> {
        let map = fields::map("entity", value)?;
        let roles = |value: &Value| match value.as_array() {
            Some(list) => list.iter().map(Value::as_i64).collect(),
            None => value.as_i64().map(|one| vec![one]),
        };
        Ok(Self {
            name: required(map, 0, "entity name", "a text", text)?,
            uri: optional(map, 1, "entity URI", "a URI", uri)?,
            roles: required(map, 2, "entity roles", "numbers", roles)?,
        })
    }

    pub(crate) fn to_value(&self) -> Value {
        let roles = Value::Array(self.roles.iter().map(|role| (*role).into()).collect());
        let map = Map::new().with(0, self.name.as_str()).with(2, roles);
        match &self.uri {
            Some(uri) => map.with(1, of_uri(uri)),
            None => map,
        }
        .into()
    }
}
