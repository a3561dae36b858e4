//! The channel between host and guest: each end distrusts the other.

use coffer_core_channel::{
    BlobReply, BlobRequest, Event, Frame, FrameReader, ImageSource, Input, Kind, MAX_FRAME, Open, Refusal,
};
use coffer_core_channel::{RunRequest, Winsize};

/// Takes bytes as frames, in pieces whose length the first byte says.
pub fn channel_frames(data: &[u8]) {
    let Some((cut, bytes)) = data.split_first() else { return };
    let mut reader = FrameReader::default();
    for piece in bytes.chunks(usize::from(*cut).max(1)) {
        reader.push(piece);
        loop {
            match reader.next() {
                Ok(Some(frame)) => look(&frame),
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
}

fn look(frame: &Frame) {
    assert!(frame.payload.len() <= MAX_FRAME);
    let mut again = FrameReader::default();
    again.push(&frame.encode().unwrap());
    assert_eq!(again.next().unwrap().as_ref(), Some(frame));
    let _ = frame.parse::<Open>();
    let _ = frame.parse::<BlobReply>();
    let _ = frame.parse::<Event>();
    let _ = frame.parse::<Refusal>();
    let _ = frame.parse::<Winsize>();
    let _ = frame.parse::<i32>();
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let request = RunRequest {
        image: "registry/nginx".into(),
        source: ImageSource::Host {
            manifest: "sha256:00".into(),
            signatures: vec!["sha256:01".into()],
            disks: vec![("sha256:02".into(), "serial".into())],
        },
        args: vec!["-v".into()],
        env: vec!["A=1".into()],
        input: Input::Sent,
        terminal: Some(Winsize { rows: 24, cols: 80 }),
        network: None,
    };
    let run = Frame::json(Kind::Open, &Open::Run(request)).unwrap();
    let blob = Frame::json(Kind::Open, &Open::Blob(BlobRequest { digest: "sha256:03".into() })).unwrap();
    let size = Frame::json(Kind::Reply, &BlobReply::Size(9)).unwrap();
    let output = Frame::bytes(Kind::Stdout, b"hello");
    let stream = |frames: &[&Frame]| {
        let bytes: Vec<u8> = frames.iter().flat_map(|frame| frame.encode().unwrap()).collect();
        [&[7][..], &bytes].concat()
    };
    vec![stream(&[&run, &output]), stream(&[&blob, &size, &Frame::bytes(Kind::Data, &[1; 40])])]
}
