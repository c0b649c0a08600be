//! What a host's processes see: its network namespace, its host name, its own /etc/rap, /var/lib/rap and /run/rap, its PATH. Owns
//! entering that view; the namespaces themselves are made by `network`.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};

use crate::command::find_program;
use crate::folder::{Folder, make_folder};
use crate::process::RUN_VARIABLE;
use crate::run_id::RunId;

/// A host's view of the machine.
#[derive(Debug, Clone)]
pub struct View {
    home: PathBuf,
    variables: BTreeMap<String, String>,
    namespace: Option<Namespace>,
}

#[derive(Debug, Clone)]
struct Namespace {
    network: PathBuf,
    folder: Folder,
    host: String,
}

impl View {
    /// The machine as it is, working in a folder.
    pub fn here(home: PathBuf) -> Self {
        let variables = BTreeMap::from([("PATH".to_owned(), SYSTEM_PATH.to_owned())]);
        Self { home, variables, namespace: None }
    }

    /// The view of a host without a namespace.
    pub fn loopback(folder: &Folder, run: &RunId, host: &str) -> Result<Self> {
        let home = folder.host(host, "home");
        for what in ["home", "etc", "lib", "run"] {
            make_folder(&folder.host(host, what))?;
        }
        let text = |path: PathBuf| path.display().to_string();
        let mut variables = BTreeMap::from([
            (RUN_VARIABLE.to_owned(), run.to_string()),
            (FOLDER_VARIABLE.to_owned(), text(folder.path().to_path_buf())),
            (HOST_VARIABLE.to_owned(), host.to_owned()),
            ("PATH".to_owned(), format!("{}:{SYSTEM_PATH}", text(folder.bin()))),
            ("HOME".to_owned(), text(home.clone())),
            ("XDG_CONFIG_HOME".to_owned(), text(home.join(".config"))),
            ("LANG".to_owned(), "C.UTF-8".to_owned()),
        ]);
        for name in ["RUST_LOG", "RUST_BACKTRACE"] {
            variables.extend(std::env::var(name).ok().map(|value| (name.to_owned(), value)));
        }
        Ok(Self { home, variables, namespace: None }.with_variables(&folder.host(host, VARIABLES)))
    }

    /// The same view with the variables of a file, if there is one.
    pub(crate) fn with_variables(mut self, file: &Path) -> Self {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let pairs = text.lines().filter_map(|line| line.split_once('='));
        self.variables.extend(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())));
        self
    }

    /// Where a process of this view finds one of the host's folders, if not where the machine has it.
    pub(crate) fn sees(&self, what: &str) -> Option<PathBuf> {
        self.namespace.as_ref()?;
        SEEN.iter().find(|(name, _)| *name == what).map(|(_, path)| PathBuf::from(path))
    }

    /// The view of a host in its network namespace.
    pub fn namespaced(folder: &Folder, run: &RunId, host: &str) -> Result<Self> {
        let network = Path::new("/run/netns").join(run.namespace(host));
        let namespace = Namespace { network, folder: folder.clone(), host: host.to_owned() };
        Ok(Self { namespace: Some(namespace), ..Self::loopback(folder, run, host)? })
    }

    /// Working folder of every process.
    pub fn home(&self) -> PathBuf {
        self.home.clone()
    }

    /// Environment of every process.
    pub fn variables(&self) -> &BTreeMap<String, String> {
        &self.variables
    }

    /// The program on this view's PATH. A name that is not there is left as it is, so that the error names it.
    pub(crate) fn resolve(&self, program: &str) -> PathBuf {
        let path = self.variables.get("PATH").map_or("", String::as_str);
        find_program(program, path).unwrap_or_else(|| program.into())
    }

    /// Does something inside the view; what it spawns stays there. A thread of its own enters, because namespaces belong to
    /// threads and there is no way back.
    pub fn enter<T: Send>(&self, act: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let Some(namespace) = &self.namespace else { return act() };
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                namespace.enter()?;
                act()
            });
            inside.join().map_err(|_| anyhow!("panic inside host {}", namespace.host))?
        })
    }
}

impl Namespace {
    fn enter(&self) -> Result<()> {
        let file = File::open(&self.network).with_context(|| self.network.display().to_string())?;
        setns(&file, CloneFlags::CLONE_NEWNET).context("enter the network namespace")?;
        unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUTS).context("own mounts and host name")?;
        std::fs::write("/proc/sys/kernel/hostname", &self.host).context("host name")?;
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, "/", None::<&str>, private, None::<&str>).context("private mounts")?;
        // A read-only overlay of an almost empty folder gives the mount points, and leaves no trace on the system.
        self.overlay("etc", "/etc")?;
        self.overlay("var-lib", "/var/lib")?;
        let options = Some("mode=755,size=64m");
        mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), options).context("own /run")?;
        std::fs::create_dir("/run/rap").context("/run/rap")?;
        SEEN.iter().try_for_each(|(what, onto)| self.bind(what, onto))
    }

    fn overlay(&self, skeleton: &str, over: &str) -> Result<()> {
        let options = format!("lowerdir={}:{over}", self.folder.skeleton(skeleton).display());
        mount(Some("overlay"), over, Some("overlay"), MsFlags::MS_RDONLY, Some(options.as_str()))
            .with_context(|| format!("overlay on {over}"))
    }

    fn bind(&self, what: &str, onto: &str) -> Result<()> {
        let from = self.folder.host(&self.host, what);
        mount(Some(&from), onto, None::<&str>, MsFlags::MS_BIND, None::<&str>)
            .with_context(|| format!("{} on {onto}", from.display()))
    }
}

/// A host's folders, and where its processes find them.
const SEEN: [(&str, &str); 3] = [("etc", "/etc/rap"), ("lib", "/var/lib/rap"), ("run", "/run/rap")];
/// Variable with the lab's folder.
pub const FOLDER_VARIABLE: &str = "RAP_LAB_FOLDER";
/// Variable with the host's name.
pub const HOST_VARIABLE: &str = "RAP_LAB_HOST";
const SYSTEM_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// File with a host's own variables, beside its folders.
pub(crate) const VARIABLES: &str = "variables";
