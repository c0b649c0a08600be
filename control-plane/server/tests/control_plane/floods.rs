//! Frames without a call, encodings that are not read, deadlines that pass: each ends in a refusal that says what it is.

use std::sync::Arc;
use std::time::Duration;

use rap_rpc::v1::admin_client::AdminClient;
use rap_runtime::{Clock, tls};
use rap_types::Reason;
use rap_wire::v1;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tonic::Code;

use crate::strangers::Never;
use crate::world::{World, reason, source, tls_stream};

fn frame(kind: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    [&[0, 0, payload.len() as u8, kind, 0, 0, 0, 0, stream][..], payload].concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_frames_without_a_call_ends_its_connection_and_no_other() {
    let world = World::dev().await;
    let mut other = AdminClient::new(world.line().await.channel);
    let config = tls::operator_client(tls::Pins::one(world.pin), Arc::new(Clock::new())).unwrap();
    let floods = [
        ("PRIORITY", frame(2, 1, &[0, 0, 0, 0, 16])),
        ("SETTINGS", frame(4, 0, &[])),
        ("PING", frame(6, 0, &[7; 8])),
        ("WINDOW_UPDATE", frame(8, 0, &[0, 0, 0, 1])),
    ];
    for (name, one) in floods {
        let stream = tls_stream(world.address(), source(), config.clone()).await.unwrap();
        let (mut answers, mut flood) = tokio::io::split(stream);
        flood.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        flood.write_all(&frame(4, 0, &[])).await.unwrap();
        let some = one.repeat(32);
        // A hundred times what may come, by a client that takes every answer.
        let sent = async {
            for _ in 0..3_200 {
                flood.write_all(&some).await?;
            }
            std::io::Result::Ok(())
        };
        let taken = async {
            let mut bytes = vec![0; 64 * 1024];
            while matches!(answers.read(&mut bytes).await, Ok(count) if count > 0) {}
        };
        let ended = async {
            tokio::select! { sent = sent => sent.is_err(), () = taken => true }
        };
        let ended = tokio::time::timeout(Duration::from_secs(30), ended).await;
        assert_eq!(ended, Ok(true), "{name}");
        other.installation(v1::InstallationRequest {}).await.unwrap();
    }
    world.stop().await;
}

#[tokio::test]
async fn an_encoding_that_is_not_read_and_a_deadline_that_passes_are_named() {
    let world = World::dev().await;
    let asked = async |header: (&str, &str)| {
        let (_open, receiver) = tokio::sync::mpsc::channel(1);
        let request = http::Request::post("/rap.fabric.v1.Admin/Installation")
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header(header.0, header.1)
            .body(tonic::body::Body::new(Never(receiver)))
            .unwrap();
        let answer = tower::ServiceExt::oneshot(world.line().await.channel, request).await.unwrap();
        tonic::Status::from_header_map(answer.headers()).unwrap()
    };
    let status = asked(("grpc-encoding", "gzip")).await;
    assert_eq!(status.code(), Code::Unimplemented);
    assert!(status.message().contains("gzip"), "{status:?}");
    assert_eq!(reason(status), Reason::RequestUnimplemented);
    let status = asked(("grpc-timeout", "800m")).await;
    assert_eq!((status.code(), reason(status)), (Code::DeadlineExceeded, Reason::RequestTimeout));
    world.stop().await;
}
