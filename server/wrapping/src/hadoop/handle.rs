//! Hadoop's calls, done.

use aws_lc_rs::rand;

use super::call::{Body, Call, Encrypted, IV, Operation};
use super::forms::{EncryptedKey, KeyVersion, Metadata, refused};
use crate::text::{SecretText, answer};
use crate::{Answer, Binding, Held, KeyName, Keyring, Moment, Permitted, WrapError, Wrapped};

/// Does what the gate permitted.
pub fn handle(call: Permitted<Call>, keyring: &Keyring, now: Moment) -> Answer {
    work(call.into_call(), keyring, now).unwrap_or_else(|error| refused(&error))
}

fn work(call: Call, keyring: &Keyring, now: Moment) -> Result<Answer, WrapError> {
    Ok(match (call.operation(), call.body) {
        (_, Body::Probe) => Answer::empty(200),
        (_, Body::Names) => answer(200, &keyring.names()?),
        (_, Body::Create { name, options }) => {
            let key = keyring.create(&name, *options, now)?;
            let location = Some(format!("key/{name}"));
            Answer { location, ..answer(201, &KeyVersion::of(&name, key.latest())) }
        }
        (_, Body::Keys(names)) => {
            let mut list = Vec::with_capacity(names.len());
            for name in &names {
                list.push(Metadata::of(keyring.find(name)?.as_ref().map(Held::key)));
            }
            answer(200, &list)
        }
        (operation, Body::Key(name)) => one(operation, &name, keyring, now)?,
        (_, Body::Generate { name, count }) => {
            let mut held = keyring.hold(&name)?;
            let bytes = held.key().options().data_key_bits.bytes();
            let mut list = Vec::new();
            for _ in 0..count {
                let mut iv = [0; IV];
                rand::fill(&mut iv).map_err(|_| WrapError::NoRandomness)?;
                let (_, wrapped) = keyring.generate(&mut held, bytes, None, &bound(&iv))?;
                list.push(EncryptedKey::of(&name, &iv, &wrapped));
            }
            answer(200, &list)
        }
        (Operation::Decrypt, Body::Encrypted(encrypted)) => {
            let held = keyring.hold(&encrypted.name)?;
            held.key().gives_plaintext_over_tls()?;
            let wrapped = Wrapped { version: encrypted.version, sealed: encrypted.material };
            let plaintext = held.key().unwrap(&wrapped, &bound(&encrypted.iv))?;
            answer(200, &KeyVersion::decrypted(&encrypted.name, SecretText::url_safe(&plaintext)))
        }
        (_, Body::Encrypted(encrypted)) => {
            let mut held = keyring.hold(&encrypted.name)?;
            answer(200, &reencrypt(keyring, &mut held, encrypted)?)
        }
        (_, Body::Batch { name, items }) => {
            let mut held = keyring.hold(&name)?;
            let list = items.into_iter().map(|item| reencrypt(keyring, &mut held, item));
            answer(200, &list.collect::<Result<Vec<_>, _>>()?)
        }
    })
}

fn one(operation: Operation, name: &KeyName, keyring: &Keyring, now: Moment) -> Result<Answer, WrapError> {
    Ok(match operation {
        Operation::KeyVersion => return Err(WrapError::MaterialRefused),
        Operation::Roll => answer(200, &KeyVersion::of(name, keyring.rotate(name, now)?.latest())),
        Operation::Delete => {
            keyring.delete(name)?;
            Answer::empty(200)
        }
        Operation::CurrentVersion => {
            let held = keyring.hold(name)?;
            answer(200, &KeyVersion::of(name, held.key().latest()))
        }
        Operation::Versions => {
            let held = keyring.hold(name)?;
            let versions = held.key().versions().map(|version| KeyVersion::of(name, version.number));
            answer(200, &versions.collect::<Vec<_>>())
        }
        // Nothing is kept between calls that could be out of date.
        Operation::InvalidateCache => Answer::empty(200),
        _ => answer(200, &Metadata::of(keyring.find(name)?.as_ref().map(Held::key))),
    })
}

fn reencrypt(keyring: &Keyring, held: &mut Held, item: Encrypted) -> Result<EncryptedKey, WrapError> {
    let wrapped = Wrapped { version: item.version, sealed: item.material };
    let again = keyring.rewrap(held, &wrapped, None, &bound(&item.iv))?;
    Ok(EncryptedKey::of(&item.name, &item.iv, &again))
}

fn bound(iv: &[u8; IV]) -> Binding<'_> {
    Binding { context: &[], associated_data: iv }
}
