//! Listings: a store lists sealed names in their own order, clients get plain ones in theirs.
//!
//! So the names of a folder, or of all below it, are gathered before the first page is given. They are kept for the
//! pages that follow, for a while.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use coffer_core_sealed_objects::ObjectName;
use coffer_guest_models::sigv4::{Slash, encoded};
use futures::{StreamExt, TryStreamExt};
use hyper::body::Incoming;
use hyper::header::HeaderMap;
use hyper::{Method, Response, StatusCode};

use crate::body::Reply;
use crate::call::Listing;
use crate::listings::Entry;
use crate::read::shown_tag;
use crate::upstream::{Ask, document};
use crate::write::{text_of, xml};
use crate::xml::{Deletions, Page, Writer};
use crate::{Gateway, Refusal};

/// Names and what is known of them, of one listing.
const MOST_BYTES: usize = 32 << 20;
/// About what an entry takes beside its text.
const ENTRY: usize = 160;
/// Pages of names that are asked for, of one listing. A store whose listing does not end is not followed for ever: names
/// that do not open count nothing against [`MOST_BYTES`].
const MOST_PAGES: usize = 1024;
/// Requests to the store at a time, for one call.
const AT_ONCE: usize = 8;
const SLASH: &str = "/";
const MAX_DELETIONS: u64 = 2 << 20;

impl Gateway {
    /// ListObjectsV2 and ListObjects.
    pub(crate) async fn list(&self, call: &Listing) -> Result<Response<Reply>, Refusal> {
        let about = (call.bucket.clone(), call.prefix.clone(), call.delimiter.clone());
        let after = match &call.token {
            Some(token) => {
                let bytes =
                    URL_SAFE_NO_PAD.decode(token).ok().and_then(|bytes| String::from_utf8(bytes).ok());
                bytes
                    .ok_or_else(|| Refusal::malformed("the continuation token is not one of this gateway"))?
            }
            None => call.after.clone(),
        };
        let goes_on = call.token.is_some() || (!call.second && !after.is_empty());
        let all = match self.listings.get(&about).filter(|_| goes_on) {
            Some(found) => found,
            None => {
                let found = Arc::new(self.gather(call).await?);
                if found.len() > call.most {
                    self.listings.keep(about, &found);
                }
                found
            }
        };
        let behind = if after.is_empty() { Bound::Unbounded } else { Bound::Excluded(after) };
        let mut rest = all.range::<String, _>((behind, Bound::Unbounded));
        let page: Vec<(String, Entry)> =
            rest.by_ref().take(call.most).map(|(name, entry)| (name.clone(), entry.clone())).collect();
        let more = call.most > 0 && rest.next().is_some();
        let sized = futures::stream::iter(page)
            .map(|(name, entry)| async move {
                let size = match &entry {
                    Entry::Folder => 0,
                    Entry::Object { key, size, etag, .. } => {
                        self.size(&ObjectName::new(&call.bucket, &name)?, key, etag, *size).await?
                    }
                };
                Ok::<_, Refusal>((name, entry, size))
            })
            .buffered(AT_ONCE)
            .try_collect::<Vec<_>>()
            .await?;
        Ok(xml(written(call, &sized, more)))
    }

    /// All names that begin with the prefix, or their folders.
    async fn gather(&self, call: &Listing) -> Result<BTreeMap<String, Entry>, Refusal> {
        let folder = call.prefix.rfind(SLASH).and_then(|at| call.prefix.get(..=at)).unwrap_or_default();
        let sealed = self.keys.seal_folder(&call.bucket, folder)?;
        let mut query = format!("list-type=2&prefix={}", encoded(sealed.as_bytes(), Slash::Encoded));
        if call.delimiter == SLASH {
            query = format!("delimiter=%2F&{query}");
        }
        let (mut found, mut bytes, mut next) = (BTreeMap::new(), 0, None::<String>);
        for _ in 0..MOST_PAGES {
            let token = next.map(|token| encoded(token.as_bytes(), Slash::Encoded));
            let query = match token {
                Some(token) => format!("continuation-token={token}&{query}"),
                None => query.clone(),
            };
            let mut reply = self.upstream.send(&Ask::new(Method::GET, &call.bucket, "").query(query)).await?;
            let page = Page::parse(&document(&mut reply).await?)?;
            let objects = page.objects.into_iter().map(|own| {
                let entry = Entry::Object {
                    key: own.key.clone(),
                    size: own.size,
                    etag: own.etag,
                    modified: own.modified,
                };
                (own.key, entry)
            });
            let folders = page.folders.into_iter().map(|own| (own, Entry::Folder));
            for (sealed, entry) in objects.chain(folders) {
                // What does not open was not put there by anybody who has the key.
                let Some(name) = self.keys.open_name(&call.bucket, &sealed) else { continue };
                let Some(rest) = name.strip_prefix(&call.prefix) else { continue };
                let cut = Some(rest).filter(|_| !call.delimiter.is_empty());
                let cut = cut.and_then(|rest| rest.find(&call.delimiter));
                let (name, entry) = match cut.and_then(|at| rest.get(..at)) {
                    Some(inside) => (format!("{}{inside}{}", call.prefix, call.delimiter), Entry::Folder),
                    None => (name, entry),
                };
                let more = name.len() + ENTRY + if matches!(entry, Entry::Folder) { 0 } else { sealed.len() };
                if found.insert(name, entry).is_none() {
                    bytes += more;
                }
                if bytes > MOST_BYTES {
                    let why = "the folder has more names than are listed at once; list with a longer prefix, or with \
                               the delimiter /";
                    return Err(Refusal::new(
                        StatusCode::BAD_REQUEST,
                        "InvalidArgument",
                        "objects.listing",
                        why,
                    ));
                }
            }
            next = page.next;
            if next.is_none() {
                return Ok(found);
            }
        }
        Err(Refusal::answer("the store's listing does not end; list with a longer prefix"))
    }

    /// HeadBucket.
    pub(crate) async fn head_bucket(&self, bucket: &str) -> Result<Response<Reply>, Refusal> {
        // Refuses what is no bucket's name.
        self.keys.seal_folder(bucket, "")?;
        self.upstream.send(&Ask::new(Method::HEAD, bucket, "")).await?;
        Ok(Response::new(Reply::of(Bytes::new())))
    }

    /// DeleteObjects: one request to the store for each, several at a time.
    pub(crate) async fn delete_many(
        &self,
        bucket: &str,
        headers: &HeaderMap,
        body: Incoming,
    ) -> Result<Response<Reply>, Refusal> {
        let wanted = Deletions::parse(&text_of(headers, body, MAX_DELETIONS).await?)?;
        let results: Vec<_> = futures::stream::iter(wanted.keys)
            .map(|key| async move {
                let deleted = async { self.delete(&ObjectName::new(bucket, &key)?).await };
                let result = deleted.await;
                (key, result.map(drop))
            })
            .buffered(AT_ONCE)
            .collect()
            .await;
        let mut own = Writer::new("DeleteResult");
        for (key, result) in results {
            match result {
                Ok(()) if wanted.quiet => {}
                Ok(()) => {
                    own.within("Deleted", |one| one.put("Key", &key));
                }
                Err(refusal) => {
                    own.within("Error", |one| {
                        one.put("Key", &key).put("Code", &refusal.s3).put("Message", &refusal.to_string())
                    });
                }
            }
        }
        Ok(xml(own))
    }
}

fn written(call: &Listing, page: &[(String, Entry, u64)], more: bool) -> Writer {
    let shown = |name: &str| match call.encode {
        true => encoded(name.as_bytes(), Slash::Kept),
        false => name.to_owned(),
    };
    let mut own = Writer::new("ListBucketResult");
    own.put("Name", &call.bucket).put("Prefix", &shown(&call.prefix));
    if !call.delimiter.is_empty() {
        own.put("Delimiter", &shown(&call.delimiter));
    }
    if call.encode {
        own.put("EncodingType", "url");
    }
    own.put("MaxKeys", &call.most.to_string()).put("IsTruncated", if more { "true" } else { "false" });
    let last = page.last().map(|(name, ..)| name.as_str()).filter(|_| more);
    if call.second {
        own.put("KeyCount", &page.len().to_string());
        if let Some(last) = last {
            own.put("NextContinuationToken", &URL_SAFE_NO_PAD.encode(last));
        }
        if let Some(token) = &call.token {
            own.put("ContinuationToken", token);
        } else if !call.after.is_empty() {
            own.put("StartAfter", &shown(&call.after));
        }
    } else {
        own.put("Marker", &shown(&call.after));
        if let Some(last) = last {
            own.put("NextMarker", &shown(last));
        }
    }
    for (name, entry, size) in page {
        match entry {
            Entry::Object { etag, modified, .. } => {
                own.within("Contents", |one| {
                    one.put("Key", &shown(name))
                        .put("LastModified", modified)
                        .put("ETag", &shown_tag(etag))
                        .put("Size", &size.to_string())
                        .put("StorageClass", "STANDARD")
                });
            }
            Entry::Folder => {
                own.within("CommonPrefixes", |one| one.put("Prefix", &shown(name)));
            }
        }
    }
    own
}
