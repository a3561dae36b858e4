//! Reference values by name, which appraisal policies ask for.
//!
//! Left out: who may write them and how long they hold, which is for who keeps them.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use regorus::Value as Rego;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Named reference values. A clone costs nothing and shares them.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(from = "BTreeMap<String, Value>", into = "BTreeMap<String, Value>")]
pub struct NamedValues(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    json: BTreeMap<String, Value>,
    rego: BTreeMap<String, Rego>,
}

impl NamedValues {
    /// The value of a name.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.json.get(name)
    }

    /// Names and values, in the order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&String, &Value)> {
        self.0.json.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.json.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.json.is_empty()
    }

    /// Whether these are the very same, and not only equal.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// As the document that policies of older dialects read: `data.reference`.
    pub(crate) fn as_data(&self) -> Rego {
        let named = self.0.rego.iter().map(|(name, value)| (Rego::from(name.as_str()), value.clone()));
        let named = Rego::from(named.collect::<BTreeMap<_, _>>());
        Rego::from(BTreeMap::from([(Rego::from("reference"), named)]))
    }

    /// Runs `evaluation` with these as what `query_reference_value` answers on this thread.
    pub(crate) fn answering<T>(&self, evaluation: impl FnOnce() -> T) -> T {
        struct Restore(Option<NamedValues>);
        impl Drop for Restore {
            fn drop(&mut self) {
                ASKED.set(self.0.take());
            }
        }
        let _restore = Restore(ASKED.replace(Some(self.clone())));
        evaluation()
    }
}

impl FromIterator<(String, Value)> for NamedValues {
    fn from_iter<I: IntoIterator<Item = (String, Value)>>(values: I) -> Self {
        BTreeMap::from_iter(values).into()
    }
}

impl From<BTreeMap<String, Value>> for NamedValues {
    fn from(json: BTreeMap<String, Value>) -> Self {
        let rego = json.iter().map(|(name, value)| (name.clone(), Rego::from(value.clone()))).collect();
        Self(Arc::new(Inner { json, rego }))
    }
}

impl From<NamedValues> for BTreeMap<String, Value> {
    fn from(values: NamedValues) -> Self {
        values.0.json.clone()
    }
}

thread_local! {
    /// The values of the evaluation on this thread. An engine's extension lives as long as the engine, and engines
    /// outlive the values.
    static ASKED: RefCell<Option<NamedValues>> = const { RefCell::new(None) };
}

/// `query_reference_value(name)`: the value, or null where there is none, as upstream answers.
pub(crate) fn answer(parameters: &[Rego]) -> Result<Rego, &'static str> {
    let [Rego::String(name)] = parameters else {
        return Err("query_reference_value takes one name");
    };
    let find = |values: &Option<NamedValues>| values.as_ref()?.0.rego.get(&**name).cloned();
    Ok(ASKED.with_borrow(find).unwrap_or(Rego::Null))
}
