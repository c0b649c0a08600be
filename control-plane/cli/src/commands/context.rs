//! Contexts: list, use, export, import, delete.

use rap_rpc::dial::ControlUrl;
use rap_runtime::Fault;
use rap_types::Reason;
use serde_json::json;

use crate::args::{Context as Command, Global};
use crate::contexts::{Context, Contexts, nameable, unquoted};
use crate::files;
use crate::output::{Answer, print};

pub(crate) fn run(global: &Global, command: Command) -> anyhow::Result<()> {
    let mut contexts = Contexts::load(global)?;
    match command {
        Command::List => list(global, &contexts),
        Command::Use { name, default_cluster } => {
            let context = contexts.contexts.get_mut(&name).ok_or_else(|| unknown(&name))?;
            context.cluster = default_cluster.or(context.cluster.take());
            contexts.current = Some(name.clone());
            contexts.save(global)?;
            done(global, "current context", name)
        }
        Command::Export => {
            let (_, context) = contexts.select(global)?;
            print(&toml::to_string_pretty(&Context { session: None, key: None, ..context })?)
        }
        Command::Import { file } => {
            let text = files::read_text(&file, 64 * 1024)?;
            let context: Context = toml::from_str(&text)
                .map_err(|error| Fault::new(Reason::ConfigInvalid, unquoted(error.message())))?;
            ControlUrl::parse(&context.url)?;
            let name = global.context.clone().unwrap_or_else(|| host(&context.url));
            nameable(&name)?;
            if contexts.contexts.contains_key(&name) {
                let message = format!("context `{name}` exists; choose another name with --context");
                return Err(Fault::new(Reason::ResourceExists, message).into());
            }
            contexts.contexts.insert(name.clone(), context);
            contexts.current = Some(name.clone());
            contexts.save(global)?;
            done(global, "imported context", name)
        }
        Command::Delete { name } => {
            contexts.contexts.remove(&name).ok_or_else(|| unknown(&name))?;
            contexts.current = contexts.current.filter(|current| *current != name);
            contexts.save(global)?;
            done(global, "deleted context", name)
        }
    }
}

fn list(global: &Global, contexts: &Contexts) -> anyhow::Result<()> {
    let selected = contexts.selected(global);
    let is_selected = |name: &String| selected.as_ref() == Some(name);
    let all: Vec<(&String, &Context)> = contexts.contexts.iter().collect();
    let document = |(name, context): &(&String, &Context)| {
        json!({
            "name": name, "url": context.url, "installation_id": context.installation_id,
            "cluster": context.cluster, "current": is_selected(name), "logged_in": context.session.is_some(),
        })
    };
    let row = |(name, context): &(&String, &Context)| {
        [
            if is_selected(name) { "*" } else { "" }.to_owned(),
            (*name).clone(),
            context.url.clone(),
            context.cluster.clone().unwrap_or_else(|| "-".to_owned()),
            context.installation_id.to_string(),
        ]
    };
    Answer::list("rap.contexts.v1", "contexts", &all, document)
        .table(["", "NAME", "URL", "CLUSTER", "INSTALLATION"], 1, all.iter().map(row))
        .print(global)
}

fn unknown(name: &str) -> Fault {
    Fault::new(Reason::ResourceNotFound, format!("no context `{name}`"))
}

fn done(global: &Global, what: &'static str, name: String) -> anyhow::Result<()> {
    Answer::new("rap.context.v1", json!({ "context": name })).properties([(what, name)]).print(global)
}

fn host(url: &str) -> String {
    url.trim_start_matches("https://").trim_end_matches('/').to_owned()
}
