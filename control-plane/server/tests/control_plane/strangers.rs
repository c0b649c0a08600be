//! What somebody without an identity can cost, and what they are told.

use std::sync::Arc;
use std::time::Duration;

use rap_runtime::{Clock, tls};
use rap_types::Reason;
use rap_wire::v1;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::world::{World, channel, reason, source, tls_stream};

#[tokio::test]
async fn an_oversized_body_is_refused_before_it_is_read() {
    let world = World::dev().await;
    let (mut client, _) = world.enrollment().await;
    let request = v1::JoinRequest { token: vec![0; 64 * 1024], ..Default::default() };
    let status = client.join(request).await.unwrap_err();
    assert_eq!(reason(status), Reason::RequestTooLarge);
    world.stop().await;
}

#[tokio::test]
async fn a_body_that_comes_too_slowly_is_cut_off() {
    let world = World::dev_with(|raw| raw.body_timeout_ms = Some(300)).await;
    let config = tls::operator_client(tls::Pins::one(world.pin), Arc::new(Clock::new())).unwrap();
    let stream = tls_stream(world.address(), source(), config).await.unwrap();
    let channel = channel(stream).await;
    // Headers, and then a body that never comes.
    let (_never, body) =
        tokio::sync::mpsc::channel::<Result<hyper::body::Frame<hyper::body::Bytes>, tonic::Status>>(1);
    let request = http::Request::post("/rap.fabric.v1.Enrollment/Join")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(tonic::body::Body::new(Never(body)))
        .unwrap();
    let answer = tokio::time::timeout(Duration::from_secs(10), tower::ServiceExt::oneshot(channel, request));
    let answer = answer.await.expect("an answer long before the request deadline").unwrap();
    let status = tonic::Status::from_header_map(answer.headers()).unwrap();
    assert_eq!(reason(status), Reason::RequestTimeout);
    world.stop().await;
}

/// A body of frames that may never come.
pub struct Never(
    pub tokio::sync::mpsc::Receiver<Result<hyper::body::Frame<hyper::body::Bytes>, tonic::Status>>,
);

impl hyper::body::Body for Never {
    type Data = hyper::body::Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<hyper::body::Frame<Self::Data>, Self::Error>>> {
        self.0.poll_recv(cx)
    }
}

#[tokio::test]
async fn calls_beyond_the_burst_are_refused_and_a_session_is_not_counted() {
    let world = World::dev_with(|raw| {
        raw.unauthenticated_per_second = Some(1);
        raw.unauthenticated_burst = Some(5);
    })
    .await;
    let source = source();
    let line = world.line_from(source).await;
    let mut client = rap_rpc::v1::enrollment_client::EnrollmentClient::new(line.channel.clone());
    let mut refused = 0;
    for _ in 0..20 {
        match client.challenge(v1::EnrollmentChallengeRequest {}).await {
            Ok(_) => {}
            Err(status) => {
                assert_eq!(reason(status), Reason::RateLimited);
                refused += 1;
            }
        }
    }
    assert!((10..=15).contains(&refused), "{refused}");
    let mut admin = rap_rpc::v1::admin_client::AdminClient::new(line.channel);
    for _ in 0..20 {
        admin.status(world.request(v1::StatusRequest {})).await.unwrap();
    }
    let mut forged = tonic::Request::new(v1::StatusRequest {});
    forged.metadata_mut().insert("authorization", "Bearer raps1.guess".parse().unwrap());
    assert_eq!(reason(admin.status(forged).await.unwrap_err()), Reason::RateLimited);
    world.stop().await;
}

#[tokio::test]
async fn a_silent_connection_is_closed_at_the_handshake_deadline_and_others_get_in() {
    let world = World::dev_with(|raw| {
        raw.handshake_timeout_ms = Some(500);
        raw.handshakes_per_source = Some(2);
    })
    .await;
    let mut silent = Vec::new();
    for _ in 0..4 {
        silent.push(TcpStream::connect(world.address()).await.unwrap());
    }
    for stream in &mut silent {
        let closed = tokio::time::timeout(Duration::from_secs(10), stream.read(&mut [0; 16])).await;
        assert!(matches!(closed.expect("closed by the server"), Ok(0) | Err(_)));
    }
    assert!(world.login().await.is_ok());
    world.stop().await;
}

#[tokio::test]
async fn silent_handshakes_of_many_sources_keep_nobody_out() {
    let world = World::dev_with(|raw| {
        raw.handshakes_total = Some(16);
        raw.handshakes_per_source = Some(8);
        raw.handshake_timeout_ms = Some(60_000);
    })
    .await;
    let mut silent = Vec::new();
    for network in (50..54).flat_map(|network| [network; 8]) {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(([127, 0, network, 1], 0).into()).unwrap();
        silent.push(socket.connect(world.address()).await.unwrap());
    }
    // One operator after the other, each over a connection of its own.
    for _ in 0..4 {
        let login = tokio::time::timeout(Duration::from_secs(20), world.login()).await;
        assert!(login.expect("a place at once").is_ok());
    }
    world.stop().await;
}

#[tokio::test]
async fn a_client_that_takes_no_answer_loses_its_connection_and_one_with_a_small_window_keeps_it() {
    let world = World::dev().await;
    let client = async |window: u32| {
        let config = tls::operator_client(tls::Pins::one(world.pin), Arc::new(Clock::new())).unwrap();
        let stream = tls_stream(world.address(), source(), config).await.unwrap();
        let mut stream = Some(hyper_util::rt::TokioIo::new(stream));
        let connector = tower::service_fn(move |_: tonic::transport::Uri| {
            let stream = stream.take().ok_or_else(|| std::io::Error::other("this connection is over"));
            async move { stream }
        });
        let endpoint = tonic::transport::Endpoint::from_static("http://control-plane");
        let endpoint =
            endpoint.initial_stream_window_size(window).http2_keep_alive_interval(Duration::from_secs(1));
        let channel = endpoint.keep_alive_while_idle(true).connect_with_connector(connector).await.unwrap();
        rap_rpc::v1::admin_client::AdminClient::new(channel)
    };
    // It answers pings and sends its own, and its window stays at 0.
    let (mut hostile, mut slow) = (client(0).await, client(16).await);
    let held =
        tokio::time::timeout(Duration::from_secs(60), hostile.installation(v1::InstallationRequest {}));
    let answer = held.await.expect("the connection ends");
    assert!(answer.is_err(), "{answer:?}");
    slow.installation(v1::InstallationRequest {}).await.unwrap();
    world.stop().await;
}

#[tokio::test]
async fn a_connection_without_a_preface_is_closed_at_a_deadline_too() {
    let world = World::dev_with(|raw| raw.handshake_timeout_ms = Some(500)).await;
    let config = tls::operator_client(tls::Pins::one(world.pin), Arc::new(Clock::new())).unwrap();
    for said in [&b""[..], b"PRI * HTTP/2.0"] {
        let mut stream = tls_stream(world.address(), source(), config.clone()).await.unwrap();
        stream.write_all(said).await.unwrap();
        let closed = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut Vec::new())).await;
        assert!(closed.is_ok(), "closed by the server after {said:?}");
    }
    // A connection that did say it lives on: pings watch over it from there.
    let line = world.line().await;
    let mut admin = rap_rpc::v1::admin_client::AdminClient::new(line.channel);
    admin.installation(v1::InstallationRequest {}).await.unwrap();
    let silent = tls_stream(world.address(), source(), config).await.unwrap();
    let closed = tokio::time::timeout(Duration::from_secs(10), { silent }.read_to_end(&mut Vec::new())).await;
    assert!(closed.is_ok());
    admin.installation(v1::InstallationRequest {}).await.unwrap();
    world.stop().await;
}

#[tokio::test]
async fn bodies_that_are_no_message_are_refused_with_a_code() {
    let world = World::dev().await;
    let bodies: [(&[u8], Reason); 6] = [
        (b"\0\0\0\0\x03\xff\xff\xff", Reason::RequestInvalid),
        (b"this is no gRPC", Reason::RequestInvalid),
        (b"\x01\0\0\0\x01x", Reason::RequestInvalid),
        (b"\0\0\0\0\x09x", Reason::RequestInvalid),
        (b"\0\xff\xff\xff\xffx", Reason::RequestTooLarge),
        (&[0, 0, 0, 0x44, 0, 0], Reason::RequestTooLarge),
    ];
    for (path, session) in
        [("Enrollment/Join", false), ("Admin/ClusterCreate", false), ("Admin/Status", true)]
    {
        for (body, expected) in bodies {
            let expected = match (path, body) {
                // 17 KiB: the cap of operators is higher, and the rest never comes.
                ("Admin/ClusterCreate" | "Admin/Status", [0, 0, 0, 0x44, ..]) => Reason::RequestInvalid,
                _ => expected,
            };
            let mut request = http::Request::post(format!("/rap.fabric.v1.{path}"))
                .header("content-type", "application/grpc")
                .header("te", "trailers");
            if session {
                let authorization = world.request(()).metadata().get("authorization").unwrap().clone();
                request = request.header("authorization", authorization.to_str().unwrap());
            }
            let sent = hyper::body::Bytes::copy_from_slice(body);
            let (sender, receiver) = tokio::sync::mpsc::channel(1);
            sender.send(Ok(hyper::body::Frame::data(sent))).await.unwrap();
            drop(sender);
            let request = request.body(tonic::body::Body::new(Never(receiver))).unwrap();
            let channel = world.line().await.channel;
            let answer = tower::ServiceExt::oneshot(channel, request).await.unwrap();
            let status = tonic::Status::from_header_map(answer.headers()).unwrap();
            assert!(!status.details().is_empty(), "{path} {body:?}: {status:?}");
            assert_eq!(reason(status), expected, "{path} {body:?}");
        }
    }
    world.stop().await;
}

#[tokio::test]
async fn services_and_methods_that_do_not_exist_are_refused_with_a_code_and_counted_by_the_rate() {
    let world = World::dev_with(|raw| {
        raw.unauthenticated_per_second = Some(1);
        raw.unauthenticated_burst = Some(3);
    })
    .await;
    for path in ["/rap.fabric.v1.Admin/NoSuch", "/rap.fabric.v1.NoSuch/Method", "/nonsense"] {
        let channel = world.line().await.channel;
        let request = || {
            http::Request::post(path)
                .header("content-type", "application/grpc")
                .header("te", "trailers")
                .body(tonic::body::Body::empty())
                .unwrap()
        };
        let mut reasons = Vec::new();
        for _ in 0..6 {
            let answer = tower::ServiceExt::oneshot(channel.clone(), request()).await.unwrap();
            let status = tonic::Status::from_header_map(answer.headers()).unwrap();
            assert!(!status.details().is_empty(), "{path}: {status:?}");
            reasons.push((status.code(), reason(status)));
        }
        let unimplemented = (tonic::Code::Unimplemented, Reason::RequestUnimplemented);
        assert_eq!(reasons[0], unimplemented, "{path}");
        let limited = (tonic::Code::ResourceExhausted, Reason::RateLimited);
        assert_eq!(reasons.last(), Some(&limited), "{path}");
    }
    world.stop().await;
}

#[tokio::test]
async fn without_a_session_only_the_open_calls_answer() {
    let world = World::dev().await;
    let mut admin = world.admin().await;
    let open = admin.installation(v1::InstallationRequest {}).await.unwrap().into_inner();
    assert_eq!((open.mode.as_str(), open.state.as_str()), ("dev", "active"));
    let status = admin.status(v1::StatusRequest {}).await.unwrap_err();
    assert_eq!(reason(status), Reason::SessionMissing);
    let status = admin.cluster_list(v1::ClusterListRequest {}).await.unwrap_err();
    assert_eq!(reason(status), Reason::SessionMissing);
    // A logged-out session is as good as none.
    let request = world.request(v1::LogoutRequest {});
    admin.logout(request).await.unwrap();
    let status = admin.status(world.request(v1::StatusRequest {})).await.unwrap_err();
    assert_eq!(reason(status), Reason::SessionMissing);
    world.stop().await;
}
