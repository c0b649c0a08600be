//! What may happen in which state, and what must hold in each.

use super::*;

impl Model for Rotations {
    type State = Fabric;
    type Action = Action;

    fn init_states(&self) -> Vec<Fabric> {
        let disk = Disk {
            records: Vec::new(),
            floors_know: 0,
            floors: self.worlds[0].floors(),
            stored: BTreeSet::new(),
        };
        vec![Fabric {
            records: Vec::new(),
            life: AuthorityLife::created(),
            version: 1,
            confirmed: 1,
            seen: true,
            disk,
        }]
    }

    fn actions(&self, fabric: &Fabric, actions: &mut Vec<Action>) {
        actions.extend(fabric.steps().into_iter().map(Action::Operator));
        if fabric.version < VERSIONS {
            actions.push(Action::Publish);
        }
        if fabric.seen {
            actions.push(Action::Away);
        }
        actions.extend([None, Some(0), Some(1), Some(2), Some(3)].map(Action::Meet));
        for old in 0..fabric.newest() {
            actions.push(Action::MeetOld(old));
            actions.extend(stolen_heads(old).map(Action::Thief));
        }
    }

    fn next_state(&self, fabric: &Fabric, action: Action) -> Option<Fabric> {
        let mut next = fabric.clone();
        match action {
            Action::Operator(step) => {
                next.life = fabric.life.after(step).ok()?;
                match step {
                    AuthorityStep::Rotate => next.records.push(Kind::Rotate),
                    AuthorityStep::Recover => next.records.push(Kind::Recovery),
                    _ => {}
                }
            }
            Action::Publish => next.version += 1,
            Action::Away => next.seen = false,
            Action::Meet(dies_after) => {
                let told = self.told_by(&fabric.records, fabric.version);
                let met = self.meet(&fabric.disk, &told, dies_after);
                next.disk = met.disk;
                next.seen = true;
                next.confirmed = fabric.confirmed.max(met.confirmed.unwrap_or(1));
            }
            Action::MeetOld(old) => {
                let told = self.told_by(&fabric.records[..old].to_vec(), fabric.version);
                next.disk = self.meet(&fabric.disk, &told, None).disk;
            }
            Action::Thief(head) => next.disk = self.meet(&fabric.disk, &only(head), None).disk,
        }
        (next != *fabric).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("the node's records are the cluster's", |_, fabric: &Fabric| {
                fabric.records.starts_with(&fabric.disk.records)
            }),
            Property::always(
                "one meeting brings the node to the newest version",
                |model: &Self, fabric: &Fabric| {
                    let told = model.told_by(&fabric.records, fabric.version);
                    let met = model.meet(&fabric.disk, &told, None);
                    met.active == told.heads.last().copied() && met.disk.records == fabric.records
                },
            ),
            Property::always(
                "in the conversation that brings a record nothing by an earlier key counts",
                |model: &Self, fabric: &Fabric| {
                    let honest = model.told_by(&fabric.records, fabric.version);
                    let expected = model.meet(&fabric.disk, &honest, None);
                    (0..fabric.newest()).flat_map(stolen_heads).all(|head| {
                        let heads = [vec![head], honest.heads.clone()].concat();
                        let met = model.meet(&fabric.disk, &Told { heads, ..honest.clone() }, None);
                        met.refused && (met.active, &met.disk) == (expected.active, &expected.disk)
                    })
                },
            ),
            Property::always(
                "a key that the node heard to be replaced moves nothing",
                |model: &Self, fabric: &Fabric| {
                    let without = model.meet(&fabric.disk, &Told::default(), None);
                    let replaced = 0..fabric.disk.records.len();
                    replaced.flat_map(stolen_heads).all(|head| {
                        let with = model.meet(&fabric.disk, &only(head), None);
                        with.refused && with.disk == without.disk && with.active == without.active
                    })
                },
            ),
            Property::always(
                "what the node serves was signed in the time of its key",
                |model: &Self, fabric: &Fabric| {
                    let active = model.meet(&fabric.disk, &Told::default(), None).active;
                    // An incarnation that no record of the node starts belongs to the newest key it knows.
                    let owner = |head: Head| head.incarnation.min(fabric.disk.records.len());
                    active.is_none_or(|head| head.signer == owner(head))
                },
            ),
            Property::always("a confirmed record is on the node's disk", |_, fabric: &Fabric| {
                fabric.confirmed <= fabric.disk.records.len() as u64 + 1
            }),
            Property::always("there is one signer, and it has the newest record", |_, fabric: &Fabric| {
                fabric.life.signer() == fabric.newest() as u64 + 1
                    && fabric.life.state(fabric.life.signer()) == Some(KeyState::Active)
            }),
            Property::sometimes("the node sleeps through two records", |_, fabric: &Fabric| {
                fabric.newest() == 2 && fabric.disk.records.is_empty()
            }),
            Property::sometimes("a thief misleads a node that has not heard", |_, fabric: &Fabric| {
                fabric.disk.stored.iter().any(|head| head.version == STOLEN_VERSION)
            }),
            Property::sometimes("the node dies between records and floors", |_, fabric: &Fabric| {
                fabric.disk.floors_know < fabric.disk.records.len()
            }),
            Property::sometimes("every key before the last is revoked", |_, fabric: &Fabric| {
                fabric.newest() == 2 && (1..=2).all(|key| fabric.life.state(key) == Some(KeyState::Revoked))
            }),
        ]
    }
}
