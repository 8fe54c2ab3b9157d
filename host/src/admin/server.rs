//! The HTTP server: one thread, a few connections, one request on each.
//!
//! Whoever connects may be hostile: connections, the head of a request and the time that either takes are bounded. A
//! connection beyond the bound waits in the kernel until another one is over.

use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::sample::TextFormat;
use super::{Board, health};

/// Bounds that no configuration changes, for their reference.
pub(crate) mod fixed {
    pub(crate) use super::{MAX_CONNECTIONS, MAX_HEAD_BYTES, REQUEST_TIMEOUT};
}

/// Connections at once.
pub(crate) const MAX_CONNECTIONS: usize = 16;
/// Of a request's line and headers; the least that hyper takes.
pub(crate) const MAX_HEAD_BYTES: usize = 8192;
/// Headers of a request.
const MAX_HEADERS: usize = 64;
/// For the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// For all of a connection.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// How long nothing is accepted after it has failed, as where there are too many open files.
const PAUSE: Duration = Duration::from_millis(200);

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

/// The server cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The address is taken, or is not ours.
    #[error("admin.listen: {address}: cannot be listened to: {source}; choose another address or port")]
    Listen {
        /// As configured.
        address: SocketAddr,
        /// The system's words.
        source: std::io::Error,
    },
    /// There is no thread for it.
    #[error("admin: the server cannot be started: {0}")]
    Start(std::io::Error),
}

/// Answers until it is dropped.
pub struct Server {
    address: SocketAddr,
    /// Its end ends the thread.
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Listens, and answers with what is on the board.
    ///
    /// # Errors
    /// The system's, with what to do.
    pub fn start(address: SocketAddr, board: Board) -> Result<Server, AdminError> {
        let refused = |source| AdminError::Listen { address, source };
        let listener = TcpListener::bind(address).map_err(refused)?;
        listener.set_nonblocking(true).map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()
            .map_err(AdminError::Start)?;
        let listener = {
            let _entered = runtime.enter();
            tokio::net::TcpListener::from_std(listener).map_err(AdminError::Start)?
        };
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new().name("podtap-admin".to_owned()).spawn(move || {
            runtime.spawn(accept(listener, board));
            // An error means that the server was dropped, which is what it waits for.
            let _ = runtime.block_on(stopped);
        });
        tracing::info!(%address, "admin: listening");
        Ok(Server { address, stop: Some(stop), thread: Some(thread.map_err(AdminError::Start)?) })
    }

    /// Where it listens: the port that the system chose, where 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn accept(listener: tokio::net::TcpListener, board: Board) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        // It fails only where it is closed, which nobody does.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(connection(stream, board.clone(), place))),
            Err(error) => {
                tracing::debug!(%error, "admin: a connection could not be accepted");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn connection(stream: tokio::net::TcpStream, board: Board, _place: OwnedSemaphorePermit) {
    let service = service_fn(|request| {
        let response = answer(&request, &board);
        async move { Ok::<_, Infallible>(response) }
    });
    let connection = http1::Builder::new()
        .keep_alive(false)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEAD_BYTES)
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    // Too late, or no HTTP: whoever connected sees it.
    drop(tokio::time::timeout(REQUEST_TIMEOUT, connection).await);
}

fn answer(request: &Request<Incoming>, board: &Board) -> Response<Full<Bytes>> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut response = response(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET\n".to_owned());
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match request.uri().path() {
        "/metrics" => metrics(request.headers(), board),
        "/healthz" => match health::stuck(&board.scrape()) {
            None => response(StatusCode::OK, TEXT, "ok\n".to_owned()),
            Some(why) => response(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("{why}\n")),
        },
        "/readyz" => {
            let complaints = health::complaints(&board.scrape(), &board.0);
            match complaints.is_empty() {
                true => response(StatusCode::OK, TEXT, "ok\n".to_owned()),
                false => response(StatusCode::SERVICE_UNAVAILABLE, TEXT, complaints.join("\n") + "\n"),
            }
        }
        "/config" => response(StatusCode::OK, JSON, board.0.config.clone()),
        _ => response(StatusCode::NOT_FOUND, TEXT, "there is /metrics, /healthz, /readyz and /config\n".to_owned()),
    }
}

fn metrics(headers: &HeaderMap, board: &Board) -> Response<Full<Bytes>> {
    let accepts = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let format = match accepts.into_iter().any(|value| value.contains("application/openmetrics-text")) {
        true => TextFormat::OpenMetrics,
        false => TextFormat::Prometheus,
    };
    match format.write(board.scrape()) {
        Ok(page) => response(StatusCode::OK, format.media_type(), page),
        Err(error) => response(StatusCode::INTERNAL_SERVER_ERROR, TEXT, format!("{error}\n")),
    }
}

fn response(status: StatusCode, media_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
