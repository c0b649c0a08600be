//! `GET /metrics`, `/healthz` and `/readyz`: one request per connection, few connections, none for long.
//!
//! Owns the bounds of the endpoint. Refuses to own the text and what readiness means: programs hand both over.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use rap_runtime::TaskGroup;
use rap_types::Reason;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

/// Serves until the group is cancelled. `render` makes the text at each scrape, `ready` says what keeps
/// the program from its work; both keep their own deadlines.
///
/// # Errors
/// None: an error of one accept never ends it.
pub async fn serve_metrics<F, R, G, Q>(
    listener: TcpListener,
    tasks: TaskGroup,
    render: F,
    ready: G,
) -> io::Result<()>
where
    F: Fn() -> R + Clone + Send + Sync + 'static,
    R: Future<Output = String> + Send + 'static,
    G: Fn() -> Q + Clone + Send + Sync + 'static,
    Q: Future<Output = Result<(), Reason>> + Send + 'static,
{
    let shutdown = tasks.token();
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else {
            // Out of descriptors: the next accept would fail at once again.
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let Ok(place) = places.clone().try_acquire_owned() else { continue };
        let (render, ready) = (render.clone(), ready.clone());
        let answer = service_fn(move |request: Request<Incoming>| {
            let (render, ready) = (render.clone(), ready.clone());
            async move { Ok::<_, Infallible>(answer(&request, render, ready).await) }
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(REQUEST_DEADLINE)
            .keep_alive(false)
            .serve_connection(TokioIo::new(stream), answer);
        tasks.spawn("metrics connection", async move {
            // The other end went away, was too slow, or does not read.
            let _ended = tokio::time::timeout(CONNECTION_DEADLINE, connection).await;
            drop(place);
        });
    }
}

async fn answer<F, R, G, Q>(request: &Request<Incoming>, render: F, ready: G) -> Response<String>
where
    F: Fn() -> R,
    R: Future<Output = String>,
    G: Fn() -> Q,
    Q: Future<Output = Result<(), Reason>>,
{
    let (status, text) = match (request.method(), request.uri().path()) {
        (&Method::GET, "/metrics") => (StatusCode::OK, render().await),
        (&Method::GET, "/healthz") => (StatusCode::OK, "ok\n".to_owned()),
        (&Method::GET, "/readyz") => match ready().await {
            Ok(()) => (StatusCode::OK, "ok\n".to_owned()),
            Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
        },
        (&Method::GET, _) => (StatusCode::NOT_FOUND, "not here\n".to_owned()),
        _ => (StatusCode::METHOD_NOT_ALLOWED, "only GET\n".to_owned()),
    };
    let mut response = Response::new(text);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(TEXT));
    response
}

const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
const CONNECTIONS: usize = 64;
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);
const REQUEST_DEADLINE: Duration = Duration::from_secs(5);
const CONNECTION_DEADLINE: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    async fn ask(address: std::net::SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        let read = stream.read_to_string(&mut text);
        tokio::time::timeout(Duration::from_secs(30), read).await.unwrap().unwrap();
        text
    }

    #[tokio::test]
    async fn the_endpoint_answers_its_two_pages_and_refuses_the_rest() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let tasks = TaskGroup::new();
        tasks.spawn(
            "metrics",
            serve_metrics(
                listener,
                tasks.clone(),
                || async { "rap_up 1\n".to_owned() },
                || async { Err(Reason::StoreUnavailable) },
            ),
        );
        let metrics = ask(address, "GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n").await;
        assert!(metrics.starts_with("HTTP/1.1 200") && metrics.ends_with("\r\n\r\nrap_up 1\n"), "{metrics}");
        assert!(metrics.contains("text/plain; version=0.0.4"), "{metrics}");
        assert!(ask(address, "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await.ends_with("ok\n"));
        assert!(ask(address, "GET /secret HTTP/1.1\r\nhost: x\r\n\r\n").await.starts_with("HTTP/1.1 404"));
        assert!(ask(address, "POST /metrics HTTP/1.1\r\nhost: x\r\n\r\n").await.starts_with("HTTP/1.1 405"));
        assert!(ask(address, "nonsense\r\n\r\n").await.starts_with("HTTP/1.1 400"));
        let ready = ask(address, "GET /readyz HTTP/1.1\r\nhost: x\r\n\r\n").await;
        assert!(ready.starts_with("HTTP/1.1 503") && ready.ends_with("store.unavailable\n"), "{ready}");
        tasks.shutdown(Duration::from_secs(30)).await;
    }
}
