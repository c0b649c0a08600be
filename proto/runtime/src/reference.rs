//! The page of commands: a section per program, written from its command line.
//!
//! Owns the form of a section. Refuses to own a word in it: all come from the help texts, so that the page cannot
//! say anything else than `--help`.

use std::fmt::Write as _;
use std::path::Path;

use clap::{Arg, Command};

/// Compares the section of `command` in `page` with what its command line says; with the environment variable
/// `RAP_WRITE_REFERENCE` writes it instead.
///
/// # Errors
/// What is wrong, and how to mend it.
pub fn check(page: &Path, command: Command) -> Result<(), String> {
    let text = std::fs::read_to_string(page).map_err(|error| format!("{}: {error}", page.display()))?;
    let Some(wanted) = differing(&text, command)? else { return Ok(()) };
    if std::env::var_os("RAP_WRITE_REFERENCE").is_some() {
        return std::fs::write(page, wanted).map_err(|error| format!("{}: {error}", page.display()));
    }
    let first =
        wanted.lines().find(|line| !text.lines().any(|old| old == *line)).unwrap_or("the order of lines");
    Err(format!("{} differs, first in: {first}\nset RAP_WRITE_REFERENCE=1 to write it", page.display()))
}

/// The page as it should be, if it is not.
fn differing(page: &str, command: Command) -> Result<Option<String>, String> {
    let name = command.get_name().to_owned();
    let place = find(page, &name).ok_or_else(|| format!("no section `## {name}`"))?;
    let wanted = section(command);
    let whole = [&page[..place.start], &wanted, &page[place.end..]].concat();
    Ok((page[place] != wanted).then_some(whole))
}

/// From its heading to the next one, or to the end.
fn find(text: &str, name: &str) -> Option<std::ops::Range<usize>> {
    let heading = format!("\n## {name}\n");
    let start = text.find(&heading)? + 1;
    let end = text[start..].find("\n## ").map_or(text.len(), |length| start + length + 1);
    Some(start..end)
}

/// The section of one program, with its heading.
fn section(mut command: Command) -> String {
    command.build();
    let mut leaves = Vec::new();
    collect(&command, "", &mut leaves);
    let everywhere = common(&command, &leaves);
    let mut text = format!("## {}\n\n", command.get_name());
    if let Some(about) = command.get_long_about().or_else(|| command.get_about()) {
        let _infallible = write!(text, "{}.\n\n", prose(&about.to_string()));
    }
    text.push_str("| command | does | arguments and own options |\n|---|---|---|\n");
    for (path, leaf) in &leaves {
        let own = own_arguments(leaf)
            .filter(|argument| !everywhere.iter().any(|one| one.get_id() == argument.get_id()));
        let own: Vec<String> =
            own.map(|argument| format!("{} {}", form(argument), meaning(argument))).collect();
        let about = leaf.get_about().map(|about| prose(&about.to_string())).unwrap_or_default();
        let _infallible = writeln!(text, "| `{path}` | {about} | {} |", own.join("<br>"));
    }
    if !everywhere.is_empty() {
        text.push_str(
            "\nFor every command:\n\n| option | environment | default | meaning |\n|---|---|---|---|\n",
        );
        for argument in everywhere {
            let (help, default) = parted(argument);
            let code = |word: String| if word.is_empty() { word } else { format!("`{word}`") };
            let _infallible = writeln!(
                text,
                "| {} | {} | {} | {}{} |",
                form(argument),
                code(environment(argument)),
                code(default.unwrap_or_default()),
                prose(&help),
                choices(argument)
            );
        }
    }
    text.push('\n');
    text
}

/// Commands that do something, with the words that call them.
fn collect<'a>(command: &'a Command, path: &str, leaves: &mut Vec<(String, &'a Command)>) {
    let visible = |one: &&Command| !one.is_hide_set() && one.get_name() != "help";
    let mut parts = command.get_subcommands().filter(visible).peekable();
    if parts.peek().is_none() {
        leaves.push((path.to_owned(), command));
        return;
    }
    for part in parts {
        let path =
            if path.is_empty() { part.get_name().to_owned() } else { format!("{path} {}", part.get_name()) };
        collect(part, &path, leaves);
    }
}

fn own_arguments(command: &Command) -> impl Iterator<Item = &Arg> {
    command.get_arguments().filter(|argument| {
        !argument.is_hide_set() && !matches!(argument.get_id().as_str(), "help" | "version")
    })
}

/// What the program takes before its command, or every command takes.
fn common<'a>(command: &'a Command, leaves: &[(String, &'a Command)]) -> Vec<&'a Arg> {
    // `version` takes none.
    let with_some =
        || leaves.iter().map(|(_, leaf)| *leaf).filter(|leaf| own_arguments(leaf).next().is_some());
    let has =
        |leaf: &Command, argument: &Arg| own_arguments(leaf).any(|own| own.get_id() == argument.get_id());
    let global: Vec<&Arg> = own_arguments(command).collect();
    let in_all = |argument: &&Arg| {
        with_some().count() > 1
            && with_some().all(|leaf| has(leaf, argument))
            && !global.iter().any(|one| one.get_id() == argument.get_id())
    };
    let first = with_some().next().into_iter().flat_map(own_arguments).filter(in_all).collect();
    [global.clone(), first].concat()
}

/// As it is typed.
fn form(argument: &Arg) -> String {
    let short = argument.get_short().filter(|_| argument.get_long().is_some());
    let short = short.map(|letter| format!("-{letter}, ")).unwrap_or_default();
    format!("`{short}{argument}`").replace('|', "\\|")
}

/// What it means, its variable, its default and its choices.
fn meaning(argument: &Arg) -> String {
    let (help, default) = parted(argument);
    let mut text = prose(&help);
    let variable = environment(argument);
    if !variable.is_empty() {
        let _infallible = write!(text, " (`{variable}`)");
    }
    if let Some(default) = default {
        let _infallible = write!(text, " [default: {}]", prose(&default));
    }
    text + &choices(argument)
}

/// The help text and the default, which the text may hold in brackets at its end.
fn parted(argument: &Arg) -> (String, Option<String>) {
    let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
    if let Some((text, default)) = help.strip_suffix(']').and_then(|help| help.rsplit_once(" [default: ")) {
        return (text.to_owned(), Some(default.to_owned()));
    }
    let defaults: Vec<_> =
        argument.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
    let shown =
        argument.get_action().takes_values() && !argument.is_hide_default_value_set() && !defaults.is_empty();
    (help, shown.then(|| defaults.join(",")))
}

fn environment(argument: &Arg) -> String {
    argument.get_env().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn choices(argument: &Arg) -> String {
    let values = argument.get_possible_values();
    let boolean = values.iter().all(|value| matches!(value.get_name(), "true" | "false"));
    if boolean || !argument.get_action().takes_values() || argument.is_hide_possible_values_set() {
        return String::new();
    }
    let names: Vec<_> = values.iter().map(clap::builder::PossibleValue::get_name).collect();
    format!(" [possible values: {}]", names.join(", "))
}

/// On one line, without a full stop, and with nothing that a table or Markdown would take for its own.
fn prose(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut out = String::new();
    for (number, part) in line.trim_end_matches('.').split('`').enumerate() {
        if number > 0 {
            out.push('`');
        }
        let part = part.replace('|', "\\|");
        out.push_str(&if number % 2 == 0 { part.replace('<', "\\<") } else { part });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program() -> Command {
        let node = Command::new("node").subcommand(
            Command::new("show")
                .about("Show <one> node.")
                .arg(Arg::new("node").help("Name | id").required(true))
                .arg(Arg::new("deep").long("deep").action(clap::ArgAction::SetTrue).help("More"))
                .arg(Arg::new("count").short('c').long("count").default_value("5").help("How many")),
        );
        Command::new("tool")
            .about("A tool")
            .subcommand(node)
            .subcommand(Command::new("secret").hide(true))
            .arg(Arg::new("home").long("home").global(true).help("Folder [default: here]"))
    }

    #[test]
    fn a_section_holds_every_command_argument_default_and_choice() {
        let wanted = "## tool\n\nA tool.\n\n| command | does | arguments and own options |\n|---|---|---|\n\
            | `node show` | Show \\<one> node | `<node>` Name \\| id<br>`--deep` More<br>\
            `-c, --count <count>` How many [default: 5] |\n\n\
            For every command:\n\n| option | environment | default | meaning |\n|---|---|---|---|\n\
            | `--home <home>` |  | `here` | Folder |\n\n";
        assert_eq!(section(program()), wanted);
    }

    #[test]
    fn a_page_that_says_something_else_is_put_right() {
        let good = format!("# Page\n\n{}## other\n\ntext\n", section(program()));
        assert_eq!(differing(&good, program()), Ok(None));
        assert_eq!(differing(&good.replace("How many", "How few"), program()), Ok(Some(good)));
        assert!(differing("# Page\n", program()).unwrap_err().contains("no section"));
    }
}
