//! Vault's calls, done.

use super::call::{Body, Call, Crypt, Input, Item, Operation};
use super::forms::{Batch, Description, Health, Lookup, Names, Outcome, absent, enveloped, errors, refused};
use crate::text::{SecretText, answer};
use crate::{Answer, Held, KeyName, Keyring, Moment, Permitted, WrapError, WrappingKey};

const TRANSIT: &str = "transit";

/// Who holds the token, for the calls by which clients ask.
#[derive(Clone, Copy, Debug)]
pub struct Caller<'a> {
    /// The name to show.
    pub display_name: &'a str,
    /// The names of what the caller may do.
    pub policies: &'a [String],
    /// How long the token is valid yet; 0 for one without end, as in Vault.
    pub ttl_seconds: u64,
}

/// Does what the gate permitted.
pub fn handle(call: Permitted<Call>, keyring: &Keyring, caller: &Caller<'_>, now: Moment) -> Answer {
    work(call.into_call(), keyring, caller, now).unwrap_or_else(|error| refused(&error))
}

fn work(call: Call, keyring: &Keyring, caller: &Caller<'_>, now: Moment) -> Result<Answer, WrapError> {
    let operation = call.operation();
    let Some(name) = call.name else { return general(operation, keyring, caller, now) };
    Ok(match (operation, call.body) {
        (_, Body::Create(options)) => match keyring.create(&name, *options, now) {
            Ok(key) => described(&key, Vec::new()),
            Err(WrapError::Exists(_)) => {
                let warning = format!("key {name} already existed, and nothing of it was changed");
                described(keyring.hold(&name)?.key(), vec![warning])
            }
            Err(error) => return Err(error),
        },
        (_, Body::Change(change)) => described(&keyring.configure(&name, &change)?, Vec::new()),
        (_, Body::Crypt(crypt)) => crypted(operation, keyring, &name, crypt)?,
        (_, Body::DataKey { length, item }) => data_key(operation, keyring, &name, length, &item)?,
        (Operation::Rotate, Body::None) => described(&keyring.rotate(&name, now)?, Vec::new()),
        (Operation::Delete, Body::None) => {
            keyring.delete(&name)?;
            Answer::empty(204)
        }
        (_, Body::None) => match keyring.find(&name)? {
            Some(held) => described(held.key(), Vec::new()),
            None => absent(),
        },
    })
}

fn general(
    operation: Operation,
    keyring: &Keyring,
    caller: &Caller<'_>,
    now: Moment,
) -> Result<Answer, WrapError> {
    Ok(match operation {
        Operation::LookupSelf => {
            let lookup = Lookup {
                display_name: caller.display_name,
                policies: caller.policies,
                ttl: caller.ttl_seconds,
                renewable: false,
                kind: "service",
            };
            enveloped(200, "token", &lookup, Vec::new())
        }
        Operation::RenewSelf => {
            errors(400, None, &["lease is not renewable: get a new token from the broker".into()])
        }
        Operation::List => match keyring.names()? {
            keys if keys.is_empty() => absent(),
            keys => enveloped(200, TRANSIT, &Names { keys }, Vec::new()),
        },
        _ => answer(
            200,
            &Health {
                initialized: true,
                sealed: false,
                standby: false,
                server_time_utc: now.seconds(),
                version: env!("CARGO_PKG_VERSION"),
            },
        ),
    })
}

fn described(key: &WrappingKey, mut warnings: Vec<String>) -> Answer {
    warnings.extend(advice(key));
    enveloped(200, TRANSIT, &Description::of(key), warnings)
}

fn advice(key: &WrappingKey) -> Option<String> {
    key.advice().map(|advice| advice.to_string())
}

fn data_key(
    operation: Operation,
    keyring: &Keyring,
    name: &KeyName,
    length: usize,
    item: &Item,
) -> Result<Answer, WrapError> {
    let mut held = keyring.hold(name)?;
    if operation == Operation::DataKeyPlaintext {
        held.key().gives_plaintext_over_tls()?;
    }
    let (plaintext, wrapped) = keyring.generate(&mut held, length, item.version, &item.binding())?;
    let outcome = Outcome::wrapped(&wrapped);
    let outcome = match operation {
        Operation::DataKeyPlaintext => outcome.with_plaintext(SecretText::standard(&plaintext)),
        _ => outcome,
    };
    Ok(enveloped(200, TRANSIT, &outcome, advice(held.key()).into_iter().collect()))
}

fn crypted(
    operation: Operation,
    keyring: &Keyring,
    name: &KeyName,
    crypt: Crypt,
) -> Result<Answer, WrapError> {
    let mut held = keyring.hold(name)?;
    if operation == Operation::Decrypt {
        held.key().gives_plaintext_over_tls()?;
    }
    let mut results = Vec::with_capacity(crypt.items.len());
    let mut code = None;
    let mut failed: usize = 0;
    for item in crypt.items {
        let result = item.and_then(|item| one(operation, keyring, &mut held, &item));
        match result {
            Ok(outcome) => results.push(outcome),
            // What is no fault of this item is no fault of the others either.
            Err(error) if error.status() >= 500 || crypt.references.is_none() => return Err(error),
            Err(error) => {
                failed = failed.saturating_add(1);
                code = code.or(Some(error.code()));
                results.push(Outcome::error(&error));
            }
        }
    }
    let warnings = advice(held.key()).into_iter().collect();
    let Some(references) = crypt.references else {
        let outcome = results.pop().ok_or(WrapError::Form("there is none"))?;
        return Ok(enveloped(200, TRANSIT, &outcome, warnings));
    };
    let status = match (failed, crypt.partial_failure) {
        (0, _) => 200,
        (_, Some(status)) if failed < results.len() => status,
        _ => 400,
    };
    for (outcome, reference) in results.iter_mut().zip(references) {
        outcome.reference = reference;
    }
    Ok(Answer { code, ..enveloped(status, TRANSIT, &Batch { batch_results: results }, warnings) })
}

fn one(operation: Operation, keyring: &Keyring, held: &mut Held, item: &Item) -> Result<Outcome, WrapError> {
    match (&item.input, operation) {
        (Input::Plain(plaintext), _) => {
            let wrapped = keyring.wrap(held, item.version, &item.binding(), plaintext.expose())?;
            Ok(Outcome::wrapped(&wrapped))
        }
        (Input::Wrapped(wrapped), Operation::Decrypt) => {
            let plaintext = held.key().unwrap(wrapped, &item.binding())?;
            Ok(Outcome::plaintext(SecretText::standard(&plaintext)))
        }
        (Input::Wrapped(wrapped), _) => {
            let again = keyring.rewrap(held, wrapped, item.version, &item.binding())?;
            Ok(Outcome::wrapped(&again))
        }
        (Input::None, _) => Err(WrapError::Form("there is none")),
    }
}
