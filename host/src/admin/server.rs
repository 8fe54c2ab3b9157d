//! The HTTP server: one thread, a few connections, one request on each.
//!
//! Whoever connects may be hostile: connections, the head of a request and the time that either takes are bounded. A
//! connection beyond the bound waits in the kernel until another one is over.

use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Frame, Incoming};
use hyper::header::{ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::exchanges::Events;
use super::page::MAX_PAGES;
use super::sample::TextFormat;
use super::{Board, health, page};
use crate::filter::Filter;
use crate::publish::{MAX_READERS, Refused};

/// Bounds that no configuration changes, for their reference.
pub(crate) mod fixed {
    pub(crate) use super::{MAX_CONNECTIONS, MAX_HEAD_BYTES, REQUEST_TIMEOUT};
    pub(crate) use crate::admin::page::{MAX_PAGES, PATIENCE};
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
/// For answers that are under way at the end.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// How long nothing is accepted after it has failed, as where there are too many open files.
const PAUSE: Duration = Duration::from_millis(200);

const TEXT: &str = "text/plain; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";
const JAVASCRIPT: &str = "text/javascript; charset=utf-8";
const JSON: &str = "application/json";
const JSON_LINES: &str = "application/x-ndjson";

/// Beside the page, which asks for it.
const SCRIPT_PATH: &str = "/live.js";

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
            let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
            runtime.spawn(accept(listener, board, Arc::clone(&places)));
            // An error means that the server was dropped, which is what it waits for.
            let _ = runtime.block_on(stopped);
            // Whoever still reads is told of the end, if that is quick.
            let all = async { places.acquire_many(MAX_CONNECTIONS as u32 - 1).await.is_ok() };
            let _ = runtime.block_on(async { tokio::time::timeout(LAST_WORDS, all).await });
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

async fn accept(listener: tokio::net::TcpListener, board: Board, places: Arc<Semaphore>) {
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

/// What a response says.
enum Body {
    Whole(Full<Bytes>),
    /// Until the reader goes.
    Events(Box<Events>),
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Body::Whole(body) => Pin::new(body).poll_frame(context),
            Body::Events(events) => Pin::new(events.as_mut()).poll_frame(context),
        }
    }
}

async fn connection(stream: tokio::net::TcpStream, board: Board, _place: OwnedSemaphorePermit) {
    let is_stream = AtomicBool::new(false);
    let service = service_fn(|request| {
        let response = answer(&request, &board);
        is_stream.store(matches!(response.body(), Body::Events(_)), Ordering::Relaxed);
        async move { Ok::<_, Infallible>(response) }
    });
    let mut connection = pin!(
        http1::Builder::new()
            .keep_alive(false)
            .max_headers(MAX_HEADERS)
            .max_buf_size(MAX_HEAD_BYTES)
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .serve_connection(TokioIo::new(stream), service)
    );
    // Too late, or no HTTP: whoever connected sees it.
    let in_time = tokio::time::timeout(REQUEST_TIMEOUT, connection.as_mut()).await;
    if in_time.is_err() && is_stream.load(Ordering::Relaxed) {
        // As long as the reader stays. One that is gone without a word is found out by the signs of life.
        let _ = connection.await;
    }
}

fn answer(request: &Request<Incoming>, board: &Board) -> Response<Body> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut response = response(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET\n".to_owned());
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    let query = request.uri().query().unwrap_or_default();
    match request.uri().path() {
        "/" => page(query, board),
        SCRIPT_PATH => response(StatusCode::OK, JAVASCRIPT, page::SCRIPT.to_owned()),
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
        "/exchanges" => exchanges(query, board),
        "/config" => response(StatusCode::OK, JSON, board.0.config.clone()),
        _ => response(
            StatusCode::NOT_FOUND,
            TEXT,
            "there is /, /metrics, /healthz, /readyz, /config and /exchanges\n".to_owned(),
        ),
    }
}

fn metrics(headers: &HeaderMap, board: &Board) -> Response<Body> {
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

/// The page of events that match `?filter=`.
fn page(query: &str, board: &Board) -> Response<Body> {
    let filter = match parameters(query, ["filter"]) {
        Ok([filter]) => filter.unwrap_or_default(),
        Err(refusal) => return *refusal,
    };
    match board.page(filter.trim()) {
        Ok(page) => response(StatusCode::OK, HTML, page),
        Err(refused) => refusal(refused, board),
    }
}

/// Events from now on, those that match `?filter=`; with `?counts=true`, what was counted as well.
fn exchanges(query: &str, board: &Board) -> Response<Body> {
    let [filter, counts] = match parameters(query, ["filter", "counts"]) {
        Ok(parameters) => parameters,
        Err(refusal) => return *refusal,
    };
    let filter = match filter.as_deref().map(Filter::parse).transpose() {
        Ok(filter) => filter,
        Err(error) => return response(StatusCode::BAD_REQUEST, TEXT, format!("filter: {error}\n")),
    };
    let counts = match counts.as_deref() {
        None | Some("false") => None,
        Some("true") => Some(board.clone()),
        Some(_) => return response(StatusCode::BAD_REQUEST, TEXT, "counts: true or false\n".to_owned()),
    };
    match board.subscribe() {
        Ok(subscription) => {
            let mut response = response(StatusCode::OK, JSON_LINES, String::new());
            *response.body_mut() = Body::Events(Box::new(Events::new(subscription, filter, counts)));
            response
        }
        Err(refused) => refusal(refused, board),
    }
}

/// Why there is nothing to be seen of the traffic.
fn refusal(refused: Refused, board: &Board) -> Response<Body> {
    let (status, message) = match refused {
        _ if board.0.broadcast.is_none() => (StatusCode::FORBIDDEN, "admin.exchanges is not set\n".to_owned()),
        Refused::TooMany => {
            let message = format!(
                "there are as many readers as there may be: {MAX_READERS}, of which {MAX_PAGES} are pages with different \
                 filters\n"
            );
            (StatusCode::SERVICE_UNAVAILABLE, message)
        }
        Refused::Ended => (StatusCode::SERVICE_UNAVAILABLE, "podtap ends\n".to_owned()),
    };
    response(status, TEXT, message)
}

/// Those of these names; of others, a refusal.
fn parameters<const N: usize>(query: &str, names: [&str; N]) -> Result<[Option<String>; N], Box<Response<Body>>> {
    let mut values = [const { None }; N];
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        match names.iter().position(|known| *known == name) {
            Some(place) => values[place] = Some(value.into_owned()),
            None => {
                let message = format!("there is no parameter {name:?}, only {}\n", names.join(" and "));
                return Err(Box::new(response(StatusCode::BAD_REQUEST, TEXT, message)));
            }
        }
    }
    Ok(values)
}

fn response(status: StatusCode, media_type: &'static str, body: String) -> Response<Body> {
    let mut response = Response::new(Body::Whole(Full::new(Bytes::from(body))));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
