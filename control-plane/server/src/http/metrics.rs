//! Prometheus text: what was refused, what is published, who is connected.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rap_types::Reason;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::control::Control;

/// Counters of this process.
#[derive(Debug, Default)]
pub struct Metrics {
    rejected: Mutex<BTreeMap<Reason, u64>>,
    alarms: Mutex<BTreeMap<Reason, u64>>,
    heads: AtomicU64,
    updates: AtomicU64,
}

impl Metrics {
    /// A call, a stream or a snapshot was refused.
    pub fn rejected(&self, reason: Reason) {
        *self.rejected.lock().unwrap_or_else(PoisonError::into_inner).entry(reason).or_default() += 1;
    }

    /// Something was found that must not be: an operator has to look.
    pub fn alarmed(&self, reason: Reason) {
        *self.alarms.lock().unwrap_or_else(PoisonError::into_inner).entry(reason).or_default() += 1;
    }

    /// How many alarms of this reason there were.
    pub fn alarms(&self, reason: Reason) -> u64 {
        self.alarms.lock().unwrap_or_else(PoisonError::into_inner).get(&reason).copied().unwrap_or(0)
    }

    /// A head was signed and stored.
    pub fn head_signed(&self) {
        self.heads.fetch_add(1, Ordering::Relaxed);
    }

    /// A snapshot update was sent to a node.
    pub fn update_sent(&self) {
        self.updates.fetch_add(1, Ordering::Relaxed);
    }

    fn text(&self, control: &Control) -> String {
        let mut text = String::new();
        header(&mut text, "rap_rejected_total", "counter", "Refusals by reason code.");
        for (reason, count) in self.rejected.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            line(&mut text, "rap_rejected_total", &format!("reason=\"{reason}\""), *count);
        }
        header(&mut text, "rap_control_alarms_total", "counter", "Alarms by reason code.");
        for (reason, count) in self.alarms.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            line(&mut text, "rap_control_alarms_total", &format!("reason=\"{reason}\""), *count);
        }
        header(&mut text, "rap_heads_signed_total", "counter", "Cluster heads signed and stored here.");
        line(&mut text, "rap_heads_signed_total", "", self.heads.load(Ordering::Relaxed));
        header(&mut text, "rap_updates_sent_total", "counter", "Snapshot updates sent to nodes.");
        line(&mut text, "rap_updates_sent_total", "", self.updates.load(Ordering::Relaxed));
        let gauges: [Gauge; 4] = [
            ("rap_cluster_incarnation", "Incarnation being served.", |numbers| numbers.incarnation),
            ("rap_cluster_version", "Version being served.", |numbers| numbers.version),
            ("rap_cluster_converged_version", "Lowest version a connected node holds.", |numbers| {
                numbers.converged
            }),
            ("rap_nodes_connected", "Nodes with a stream to this replica.", |numbers| numbers.connected),
        ];
        let clusters: Vec<(String, Numbers)> = control
            .clusters
            .all()
            .iter()
            .map(|cluster| (format!("cluster=\"{}\"", cluster.id), Numbers::of(control, cluster)))
            .collect();
        for (name, help, value) in gauges {
            header(&mut text, name, "gauge", help);
            for (labels, numbers) in &clusters {
                line(&mut text, name, labels, value(numbers));
            }
        }
        text
    }
}

/// Name, help text and value of a gauge that every cluster has.
type Gauge = (&'static str, &'static str, fn(&Numbers) -> u64);

struct Numbers {
    incarnation: u64,
    version: u64,
    converged: u64,
    connected: u64,
}

impl Numbers {
    fn of(control: &Control, cluster: &crate::clusters::Cluster) -> Self {
        let order = cluster.feed.newest().map(|published| published.order).unwrap_or_default();
        let acknowledged = control.sessions.acknowledged(cluster.id);
        Self {
            incarnation: order.incarnation.0,
            version: order.version.0,
            converged: acknowledged.values().copied().min().unwrap_or(0),
            connected: acknowledged.len() as u64,
        }
    }
}

/// Serves `/metrics` and `/healthz` until the group is cancelled: one request per connection, of
/// which there are few, and none waits for a request for long.
pub async fn serve_metrics(control: Arc<Control>, listener: TcpListener) -> std::io::Result<()> {
    let shutdown = control.tasks.token();
    let scraped = control.clone();
    let router = Router::new()
        .route("/metrics", get(move || async move { scraped.metrics.text(&scraped) }))
        .route("/healthz", get(|| async { "ok\n" }));
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
        let service = TowerToHyperService::new(router.clone());
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(REQUEST_DEADLINE)
            .keep_alive(false)
            .serve_connection(TokioIo::new(stream), service);
        control.tasks.spawn("metrics connection", async move {
            // The other end went away, was too slow, or does not read.
            let _ended = tokio::time::timeout(CONNECTION_DEADLINE, connection).await;
            drop(place);
        });
    }
}

const CONNECTIONS: usize = 64;
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);
const REQUEST_DEADLINE: Duration = Duration::from_secs(5);
const CONNECTION_DEADLINE: Duration = Duration::from_secs(30);

fn header(text: &mut String, name: &str, kind: &str, help: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn line(text: &mut String, name: &str, labels: &str, value: u64) {
    let _ = match labels {
        "" => writeln!(text, "{name} {value}"),
        labels => writeln!(text, "{name}{{{labels}}} {value}"),
    };
}
