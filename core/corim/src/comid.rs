//! CoMID: statements about environments (draft-ietf-rats-corim, section 5). Of them the reference values are kept.

use coffer_core_cose::cbor::{self, Map, Value};

use crate::entity::Entity;
use crate::error::CorimError;
use crate::fields::{self, identifier, optional, part, required, text};
use crate::measurement::Measurement;

/// The kind of a thing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Class {
    /// A number, a UUID, an OID or bytes.
    pub id: Option<Value>,
    /// Who makes it.
    pub vendor: Option<String>,
    /// What its maker calls it.
    pub model: Option<String>,
    /// Its layer.
    pub layer: Option<u64>,
    /// Which of several in a layer.
    pub index: Option<u64>,
}

/// What statements are about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    /// A kind of things.
    pub class: Option<Class>,
    /// One thing.
    pub instance: Option<Value>,
    /// A group of things.
    pub group: Option<Value>,
}

/// The measurements that an environment should have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Triple {
    /// The environment.
    pub environment: Environment,
    /// Its measurements.
    pub measurements: Vec<Measurement>,
}

/// A module's statements.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comid {
    /// Its identifier; a UUID as people write it.
    pub id: String,
    /// Its version.
    pub version: u64,
    /// Who is responsible for it.
    pub entities: Vec<Entity>,
    /// Reference values.
    pub references: Vec<Triple>,
    /// How many kinds of other statements there were.
    pub skipped: usize,
    /// Our explanation of the values: reference values in JSON.
    pub explanation: Option<String>,
}

/// The key of the explanation. Negative keys are left to profiles (section 2.1).
const EXPLANATION: i64 = -1;

impl Comid {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, CorimError> {
        let value = cbor::decode(bytes)?;
        let map = fields::map("CoMID", &value)?;
        let identity = required(map, 1, "tag identity", "a map", Value::as_map)?;
        let triples = required(map, 4, "triples", "a map that is not empty", |value| {
            value.as_map().filter(|map| !map.is_empty())
        })?;
        let references = part(triples, 0, |value| {
            let list = value.as_array().filter(|list| !list.is_empty());
            let list = list.ok_or_else(|| CorimError::form("reference triples", "a list", Some(value)))?;
            list.iter().map(Triple::parse).collect::<Result<Vec<_>, _>>()
        })?;
        Ok(Self {
            id: required(identity, 0, "tag id", "a text or a UUID", identifier)?,
            version: optional(identity, 1, "tag version", "a number", Value::as_u64)?.unwrap_or_default(),
            entities: part(map, 2, Entity::list)?.unwrap_or_default(),
            skipped: triples.len().saturating_sub(usize::from(references.is_some())),
            references: references.unwrap_or_default(),
            // Another profile may use the key for anything.
            explanation: map.at(EXPLANATION).and_then(text),
        })
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let identity = Map::new().with(0, self.id.as_str()).with(1, self.version);
        let references = Value::Array(self.references.iter().map(Triple::to_value).collect());
        let mut map = Map::new().with(1, identity).with(4, Map::new().with(0, references));
        if !self.entities.is_empty() {
            map.insert(2, Value::Array(self.entities.iter().map(Entity::to_value).collect()));
        }
        if let Some(explanation) = &self.explanation {
            map.insert(EXPLANATION, explanation.as_str());
        }
        cbor::encode(&map.into())
    }
}

impl Triple {
    fn parse(value: &Value) -> Result<Self, CorimError> {
        let wrong = || CorimError::form("reference triple", "an environment and measurements", Some(value));
        let Some([environment, measurements]) = value.as_array() else { return Err(wrong()) };
        let measurements = match measurements {
            Value::Array(list) if !list.is_empty() => list.iter().map(Measurement::parse).collect(),
            // Some writers leave the list out around a single measurement.
            Value::Map(_) => Measurement::parse(measurements).map(|one| vec![one]),
            _ => return Err(wrong()),
        };
        Ok(Self { environment: Environment::parse(environment)?, measurements: measurements? })
    }

    fn to_value(&self) -> Value {
        let measurements = self.measurements.iter().map(Measurement::to_value).collect();
        Value::Array(vec![self.environment.to_value(), Value::Array(measurements)])
    }
}

impl Environment {
    fn parse(value: &Value) -> Result<Self, CorimError> {
        let map = fields::map("environment", value)?;
        let found = Self {
            class: part(map, 0, Class::parse)?,
            instance: map.at(1).cloned(),
            group: map.at(2).cloned(),
        };
        match found == Self::default() {
            true => Err(CorimError::form("environment", "a class, an instance or a group", Some(value))),
            false => Ok(found),
        }
    }

    fn to_value(&self) -> Value {
        let mut map = Map::new();
        if let Some(class) = &self.class {
            map.insert(0, class.to_value());
        }
        for (key, value) in [(1, &self.instance), (2, &self.group)] {
            if let Some(value) = value {
                map.insert(key, value.clone());
            }
        }
        map.into()
    }
}

impl Class {
    fn parse(value: &Value) -> Result<Self, CorimError> {
        let map = fields::map("class", value)?;
        Ok(Self {
            id: map.at(0).cloned(),
            vendor: optional(map, 1, "class vendor", "a text", text)?,
            model: optional(map, 2, "class model", "a text", text)?,
            layer: optional(map, 3, "class layer", "a number", Value::as_u64)?,
            index: optional(map, 4, "class index", "a number", Value::as_u64)?,
        })
    }

    fn to_value(&self) -> Value {
        let text = |text: &Option<String>| text.as_deref().map(Value::from);
        let number = |number: Option<u64>| number.map(Value::from);
        let members =
            [self.id.clone(), text(&self.vendor), text(&self.model), number(self.layer), number(self.index)];
        let numbered = (0_i64..).zip(members);
        let each = |map: Map, (key, value): (i64, Option<Value>)| match value {
            Some(value) => map.with(key, value),
            None => map,
        };
        numbered.fold(Map::new(), each).into()
    }
}
