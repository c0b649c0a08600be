//! Many clients at once for a token with one use: how many get in.

use anyhow::{Context as _, Result, ensure};
use rap_types::Reason;
use tokio::task::JoinSet;

use crate::control_plane::ControlPlane;
use crate::measure::Stopwatch;
use crate::operator::Operator;
use crate::scenario::Measured;
use crate::settings::Settings;
use crate::swarm::{Racer, Target};

/// Measures every row of this part.
pub async fn measure(
    settings: &Settings,
    control: &ControlPlane,
    operator: &mut Operator,
    measured: &mut Measured,
) -> Result<()> {
    let (clients, rounds) = if settings.quick { (40, 3) } else { (200, 50) };
    operator.cluster(CLUSTER).await?;
    let (mut winners, mut took) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let token = operator.token_with(CLUSTER, 1, false).await?;
        let target = Target::new(control.address(), &token)?;
        let racers = prepare(&target, round * clients, clients).await?;
        let watch = Stopwatch::start();
        let mut joins: JoinSet<_> = racers.into_iter().map(Racer::join).collect();
        let (mut won, mut exhausted) = (0, 0);
        while let Some(joined) = joins.join_next().await {
            match joined? {
                Ok(_) => won += 1,
                Err(Reason::TokenExhausted) => exhausted += 1,
                Err(reason) => anyhow::bail!("a client was refused with {}", reason.code()),
            }
        }
        took.push(watch.elapsed_ms());
        ensure!(won + exhausted == clients, "{won} in, {exhausted} refused, of {clients}");
        winners.push(won as f64);
    }
    let note = format!(
        "clients that got a join request for a token with one use: {clients} at once with keys and source addresses of their own, {rounds} \
         rounds; all others were refused with token.exhausted"
    );
    measured.insert("winners", (winners, note));
    measured
        .insert("race_ms", (took, format!("from the first join sent to the last answer, {clients} clients")));
    Ok(())
}

/// Connects the clients, a few at a time; each is one message away from its request.
async fn prepare(target: &Target, first: usize, count: usize) -> Result<Vec<Racer>> {
    let mut racers = Vec::with_capacity(count);
    let mut connecting = JoinSet::new();
    for number in 0..count {
        let target = target.clone();
        connecting.spawn(async move { Racer::new(&target, first + number).await });
        if connecting.len() >= AT_ONCE {
            racers.push(connecting.join_next().await.context("a client")???);
        }
    }
    while let Some(racer) = connecting.join_next().await {
        racers.push(racer??);
    }
    Ok(racers)
}

const CLUSTER: &str = "raced";
const AT_ONCE: usize = 16;
