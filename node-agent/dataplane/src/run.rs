//! The life of the process: claim, listen, serve, end. Owns the order; each step is elsewhere.

use std::sync::Arc;
use std::time::Duration;

use rap_runtime::{Fault, TaskGroup, Watchdog, descriptors, last_fault, service, shutdown_signal, telemetry};
use rap_types::Reason;
use rap_wireguard::{DEFAULT_MTU, TunConfig};
use tokio::net::UnixListener;
use tokio::runtime::Builder;

use crate::args::Settings;
use crate::bounds::Bounds;
use crate::claim::Claim;
use crate::plane::Plane;
use crate::{agent_socket, capability, check, clear};

/// Runs a data plane on a runtime of its own until it is stopped. If it ends on a fault, the fault is left in the
/// membership's folder for whoever started it.
pub(crate) fn start(settings: Settings, runtime: &mut Builder) -> Result<(), Fault> {
    telemetry::init(settings.log_format, "info").map_err(Fault::of(Reason::ConfigInvalid))?;
    descriptors::raise_limit();
    let runtime = runtime.enable_all().build().map_err(unavailable("runtime"))?;
    let folder = settings.run_dir.join(&settings.membership);
    let ended = runtime.block_on(run(settings));
    // The status says it too: a folder that cannot be written keeps nothing else back.
    let left = match &ended {
        Ok(()) => last_fault::clear(&folder).map_err(|error| error.to_string()),
        Err(fault) => last_fault::write(&folder, fault).map_err(|error| error.to_string()),
    };
    if let Err(error) = left {
        tracing::warn!(error, "the last fault could not be left behind");
    }
    ended
}

async fn run(settings: Settings) -> Result<(), Fault> {
    let signal = shutdown_signal().map_err(unavailable("signals"))?;
    let (claim, listener) = Claim::take(&settings.run_dir, &settings.membership)?;
    check::ports(&settings)?;
    listener.set_nonblocking(true).map_err(unavailable("socket"))?;
    let listener = UnixListener::from_std(listener).map_err(unavailable("socket"))?;
    let bounds = Bounds::read(&settings.bounds_dir, &settings.membership)?;
    let tun = interface(&settings, &bounds);
    let group = TaskGroup::new();
    let plane = Arc::new(Plane::new(&settings, bounds, tun, group.clone()));
    let watchdog = Watchdog::default();
    let socket = agent_socket::serve(plane.clone(), listener, watchdog.part("control socket"));
    group.spawn_critical("control-socket", socket);
    group.spawn_critical("device-watch", plane.clone().watch(watchdog.part("device")));
    if let Some(seconds) = settings.table_timeout {
        let within = Duration::from_secs(seconds.into());
        group.spawn_critical("first-table", plane.clone().expect_table(within));
    }
    tracing::info!(membership = settings.membership, interface = plane.interface(), "data plane ready");
    service::ready();
    group.spawn("watchdog", watchdog.run(group.token()));

    let token = group.token();
    tokio::select! {
        signal = signal => tracing::info!(signal, "stopping"),
        () = token.cancelled() => {}
    }
    service::stopping();
    let drained = group.shutdown(DRAIN).await;
    plane.stop().await;
    drop(claim);
    match drained.failure {
        Some(failure) => Err(Fault::new(Reason::DataplaneUnavailable, failure.to_string())),
        None => Ok(()),
    }
}

fn interface(settings: &Settings, bounds: &Bounds) -> Option<TunConfig> {
    if settings.no_tun {
        return None;
    }
    let missing = capability::no_tun_because();
    if let Some(why) = &missing {
        tracing::warn!(why, "no overlay interface: only links and pings are carried");
    }
    missing.is_none().then(|| TunConfig {
        name: settings.interface.clone(),
        mtu: DEFAULT_MTU,
        record: Some(clear::record(&settings.run_dir, &settings.membership)),
        allowed: bounds.allowed.clone(),
    })
}

fn unavailable(what: &'static str) -> impl FnOnce(std::io::Error) -> Fault {
    move |error| Fault::new(Reason::DataplaneUnavailable, format!("{what}: {error}"))
}

/// Links say goodbye within this time.
const DRAIN: Duration = Duration::from_secs(5);
