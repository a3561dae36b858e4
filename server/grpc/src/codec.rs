//! Messages to bytes and back, for tonic.
//!
//! tonic's own codec answers garbage with INTERNAL. Here it is the sender's fault and is said so.

use std::marker::PhantomData;

use prost::Message;
use prost::bytes::Buf;
use tonic::Status;
use tonic::codec::{self, DecodeBuf, EncodeBuf};

use crate::server::refusal;

/// Encodes `E` and decodes `D`.
pub(crate) struct Codec<E, D>(PhantomData<fn(E) -> D>);

impl<E, D> Codec<E, D> {
    pub(crate) fn new() -> Self {
        Self(PhantomData)
    }
}

impl<E: Message + 'static, D: Message + Default + 'static> codec::Codec for Codec<E, D> {
    type Encode = E;
    type Decode = D;
    type Encoder = Encoder<E>;
    type Decoder = Decoder<D>;

    fn encoder(&mut self) -> Encoder<E> {
        Encoder(PhantomData)
    }

    fn decoder(&mut self) -> Decoder<D> {
        Decoder(PhantomData)
    }
}

pub(crate) struct Encoder<E>(PhantomData<fn(E)>);

impl<E: Message> codec::Encoder for Encoder<E> {
    type Item = E;
    type Error = Status;

    fn encode(&mut self, item: E, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        item.encode(into).map_err(|error| Status::internal(error.to_string()))
    }
}

pub(crate) struct Decoder<D>(PhantomData<fn() -> D>);

impl<D: Message + Default> codec::Decoder for Decoder<D> {
    type Item = D;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<D>, Status> {
        D::decode(from).map(Some).map_err(|error| {
            refusal::malformed(format!("the message does not fit its description in proto/: {error}"))
        })
    }
}

/// Encodes `E`, and leaves answers as they are: the caller decodes them, so that an answer that is none is told apart
/// from a refusal.
pub(crate) struct RawCodec<E>(PhantomData<fn(E)>);

impl<E> RawCodec<E> {
    pub(crate) fn new() -> Self {
        Self(PhantomData)
    }
}

impl<E: Message + 'static> codec::Codec for RawCodec<E> {
    type Encode = E;
    type Decode = Vec<u8>;
    type Encoder = Encoder<E>;
    type Decoder = RawDecoder;

    fn encoder(&mut self) -> Encoder<E> {
        Encoder(PhantomData)
    }

    fn decoder(&mut self) -> RawDecoder {
        RawDecoder
    }
}

pub(crate) struct RawDecoder;

impl codec::Decoder for RawDecoder {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let mut bytes = vec![0; from.remaining()];
        from.copy_to_slice(&mut bytes);
        Ok(Some(bytes))
    }
}
