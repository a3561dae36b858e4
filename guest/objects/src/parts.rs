//! Uploads in parts: each is a stream of its own, and their list is uploaded behind the last.

use std::sync::Arc;

use bytes::Bytes;
use coffer_core_sealed_objects::{Index, LEAST_PART, ObjectName, Part, PartId};
use coffer_guest_models::sigv4::{Slash, encoded};
use hyper::body::Incoming;
use hyper::header::HeaderMap;
use hyper::{Method, Response, StatusCode};

use crate::body::Reply;
use crate::call::PartOf;
use crate::read::{insert, shown_tag};
use crate::upstream::{Ask, document};
use crate::write::{Plain, copied, done, tag_of, text_of, xml};
use crate::xml::{Completion, Writer, element};
use crate::{Gateway, Range, Refusal};

/// Ten thousand parts with their tags.
const MAX_COMPLETION: u64 = 4 << 20;

fn of_upload(upload: &str) -> String {
    format!("uploadId={}", encoded(upload.as_bytes(), Slash::Encoded))
}

fn of_part(number: u32, upload: &str) -> String {
    format!("partNumber={number}&{}", of_upload(upload))
}

/// `TAG-ID-SIZE`: what the store calls the part, and what it is. The client keeps it until it completes the upload.
fn part_tag(store: &str, part: &Part) -> String {
    format!("\"{}-{part}\"", store.trim_matches('"'))
}

fn read_tag(text: &str) -> Option<(&str, Part)> {
    let mut pieces = text.rsplitn(3, '-');
    let (size, id) = (pieces.next()?, pieces.next()?);
    Some((pieces.next()?, format!("{id}-{size}").parse().ok()?))
}

impl Gateway {
    /// CreateMultipartUpload.
    pub(crate) async fn begin(
        &self,
        name: &ObjectName,
        headers: &HeaderMap,
    ) -> Result<Response<Reply>, Refusal> {
        let key = self.keys.seal_name(name)?;
        let ask = Ask::new(Method::POST, name.bucket(), &key).query("uploads=".into());
        let mut reply = self.upstream.send(&self.described_by(ask, name, headers)?).await?;
        let text = document(&mut reply).await?;
        let upload = element(&text, "UploadId");
        let upload = upload.ok_or_else(|| Refusal::answer("the store gives the upload no name"))?;
        let mut own = Writer::new("InitiateMultipartUploadResult");
        own.put("Bucket", name.bucket()).put("Key", name.key()).put("UploadId", &upload);
        Ok(xml(own))
    }

    /// UploadPart.
    pub(crate) async fn part(
        &self,
        name: &ObjectName,
        of: &PartOf,
        headers: &HeaderMap,
        body: Incoming,
    ) -> Result<Response<Reply>, Refusal> {
        let tag = self.upload_part(name, of, Plain::of_client(headers, body)?).await?;
        let mut reply = Response::new(Reply::of(Bytes::new()));
        insert(reply.headers_mut(), "etag", &tag);
        Ok(reply)
    }

    /// UploadPartCopy.
    pub(crate) async fn part_copy(
        self: &Arc<Self>,
        name: &ObjectName,
        of: &PartOf,
        from: &ObjectName,
        range: Option<Range>,
    ) -> Result<Response<Reply>, Refusal> {
        let (key, seen) = self.source(from).await?;
        let size = seen.shape.size();
        let wanted = range.map_or(Ok(0..size), |range| range.of(size))?;
        let length = wanted.end - wanted.start;
        let pump = self.pump(from.bucket(), &key, seen, wanted, None).await?;
        let tag = self.upload_part(name, of, (Plain::Object(Box::new(pump)), length)).await?;
        Ok(copied("CopyPartResult", &tag))
    }

    async fn upload_part(
        &self,
        name: &ObjectName,
        of: &PartOf,
        plain: (Plain, u64),
    ) -> Result<String, Refusal> {
        let key = self.keys.seal_name(name)?;
        let part = Part { id: PartId::random()?, size: plain.1 };
        let sealer = self.keys.part(name, &part.id)?;
        let ask = Ask::new(Method::PUT, name.bucket(), &key).query(of_part(of.number, &of.upload));
        let reply = self.upload(&ask, plain, sealer, LEAST_PART).await?;
        Ok(part_tag(tag_of(&reply)?, &part))
    }

    /// CompleteMultipartUpload.
    pub(crate) async fn complete(
        &self,
        name: &ObjectName,
        upload: &str,
        headers: &HeaderMap,
        body: Incoming,
    ) -> Result<Response<Reply>, Refusal> {
        let listed = Completion::parse(&text_of(headers, body, MAX_COMPLETION).await?)?;
        let (mut stored, mut parts) = (Vec::new(), Vec::new());
        for (number, tag) in &listed.0 {
            let (store, part) = read_tag(tag).ok_or_else(|| {
                let why = format!("part {number} has a tag that this gateway did not give");
                Refusal::new(StatusCode::BAD_REQUEST, "InvalidPart", "objects.parts", why)
            })?;
            stored.push((*number, store.to_owned()));
            parts.push(part);
        }
        // As stores have it; here they would not notice, for short parts are filled up.
        let short = |part: &Part| part.size < LEAST_PART;
        if parts.iter().rev().skip(1).any(short) {
            let why = "a part that is not the last has less than 5 MiB";
            return Err(Refusal::new(StatusCode::BAD_REQUEST, "EntityTooSmall", "objects.parts", why));
        }
        let key = self.keys.seal_name(name)?;
        let trailer = self.keys.seal_index(name, &Index::new(parts)?)?;
        let last = stored.last().map_or(0, |(number, _)| *number) + 1;
        let ask = Ask::new(Method::PUT, name.bucket(), &key).query(of_part(last, upload));
        let reply = self.upstream.send_bytes(&ask, trailer.into()).await?;
        stored.push((last, tag_of(&reply)?.trim_matches('"').to_owned()));
        let mut text = Writer::new("CompleteMultipartUpload");
        for (number, tag) in stored {
            text.within("Part", |part| {
                part.put("PartNumber", &number.to_string()).put("ETag", &format!("\"{tag}\""))
            });
        }
        let ask = Ask::new(Method::POST, name.bucket(), &key).query(of_upload(upload));
        let mut ask = ask.header("content-type", "application/xml");
        let conditions = crate::read::conditions(headers).into_iter();
        ask.headers.extend(conditions.filter(|(name, _)| name.ends_with("match")));
        let reply = self.upstream.send_bytes(&ask, text.finish().into()).await?;
        let etag = done(reply).await?;
        self.known.forget(name.bucket(), &key);
        let mut own = Writer::new("CompleteMultipartUploadResult");
        own.put("Bucket", name.bucket()).put("Key", name.key()).put("ETag", &shown_tag(&etag));
        Ok(xml(own))
    }

    /// AbortMultipartUpload.
    pub(crate) async fn abort(&self, name: &ObjectName, upload: &str) -> Result<Response<Reply>, Refusal> {
        let key = self.keys.seal_name(name)?;
        let ask = Ask::new(Method::DELETE, name.bucket(), &key).query(of_upload(upload));
        self.upstream.send(&ask).await?;
        let mut reply = Response::new(Reply::of(Bytes::new()));
        *reply.status_mut() = StatusCode::NO_CONTENT;
        Ok(reply)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parts_tag_reads_back_whatever_the_store_calls_it() {
        let part = Part { id: PartId::insecure_from([9; 16]), size: 77 };
        for store in ["0123abcd", "a-b-c", "x"] {
            let tag = part_tag(&format!("\"{store}\""), &part);
            assert_eq!(read_tag(tag.trim_matches('"')), Some((store, part)));
        }
        for text in ["", "a", "a-b", "0123abcd", "x-00-1", "d41d8cd98f00b204e9800998ecf8427e-2"] {
            assert_eq!(read_tag(text), None, "{text}");
        }
    }
}
