//! A lab as root: hosts are network namespaces with a view of their own. `scripts/test` runs these when it is root.

mod needs_root {
    use std::path::Path;
    use std::time::Duration;

    use rap_lab::folder::Folder;
    use rap_lab::{Host, Invocation, Lab, Mode, Slowness, sweep, wait_until};

    const LONG: Duration = Duration::from_secs(20);

    fn shell(script: &str) -> Invocation {
        Invocation::new("sh").arguments(["-c", script])
    }

    fn lab(base: &tempfile::TempDir) -> Lab {
        Lab::new_in(Folder::at(base.path().join("ns")), Mode::Namespaces).expect("lab")
    }

    fn hears(from: &Host, to: &Host) -> bool {
        let ping = Invocation::new("ping").arguments(["-c1", "-W1", "-n"]).argument(to.address().to_string());
        from.run(&ping, LONG).expect("ping").code == Some(0)
    }

    fn until(what: &str, wanted: bool, from: &Host, to: &Host) {
        wait_until(LONG, what, || Ok((hears(from, to) == wanted).then_some(()))).expect(what);
    }

    #[test]
    #[ignore = "needs root"]
    fn a_cut_between_two_hosts_leaves_the_third_alone() {
        let base = tempfile::tempdir().expect("folder");
        let lab = lab(&base);
        let [a, b, c] = ["a", "b", "c"].map(|name| lab.host(name).expect("host"));
        until("a hears b", true, &a, &b);
        lab.cut("a", Some("b")).expect("cut");
        assert!(!hears(&a, &b) && !hears(&b, &a));
        assert!(hears(&a, &c) && hears(&c, &b));
        lab.heal("b", Some("a")).expect("heal");
        until("a hears b again", true, &a, &b);
        lab.cut("c", None).expect("unplug");
        assert!(!hears(&a, &c) && hears(&a, &b));
        lab.heal("c", None).expect("plug");
        until("a hears c again", true, &a, &c);
    }

    #[test]
    #[ignore = "needs root"]
    fn each_host_sees_its_own_files_and_the_machine_sees_none() {
        let base = tempfile::tempdir().expect("folder");
        let lab = lab(&base);
        let (a, b) = (lab.host("a").expect("a"), lab.host("b").expect("b"));
        let machine: Vec<bool> =
            ["/etc/rap", "/var/lib/rap", "/run/rap"].map(|path| Path::new(path).exists()).to_vec();
        let write =
            "for f in /etc/rap /var/lib/rap /run/rap; do echo $RAP_LAB_HOST > $f/mine; done; getent hosts b";
        let answer = a.run(&shell(write), LONG).expect("write").success().expect("write");
        assert!(answer.stdout.starts_with(&b.address().to_string()), "{}", answer.stdout);
        let read = "cat /etc/rap/mine /var/lib/rap/mine /run/rap/mine";
        assert_eq!(a.run(&shell(read), LONG).expect("read").stdout, "a\na\na\n");
        assert_ne!(b.run(&shell(read), LONG).expect("read").code, Some(0));
        assert_eq!(std::fs::read_to_string(a.folder("lib").join("mine")).expect("file"), "a\n");
        let after: Vec<bool> =
            ["/etc/rap", "/var/lib/rap", "/run/rap"].map(|path| Path::new(path).exists()).to_vec();
        assert_eq!(machine, after);
    }

    #[test]
    #[ignore = "needs root"]
    fn each_host_has_its_own_name_and_the_machine_keeps_its_own() {
        let base = tempfile::tempdir().expect("folder");
        let lab = lab(&base);
        let name = || std::fs::read_to_string("/proc/sys/kernel/hostname").expect("host name");
        let before = name();
        for host in ["a", "b"].map(|name| lab.host(name).expect("host")) {
            let answer = host.typed("uname -n", LONG).expect("uname");
            assert_eq!(answer.stdout.trim(), host.name());
        }
        assert_eq!(name(), before);
    }

    #[test]
    #[ignore = "needs root"]
    fn processes_of_one_host_meet_on_a_unix_socket() {
        let base = tempfile::tempdir().expect("folder");
        let lab = lab(&base);
        let host = lab.host("a").expect("a");
        let serve = "import socket\ns=socket.socket(socket.AF_UNIX)\ns.bind('/run/rap/x.sock')\ns.listen()\nc,_=s.accept()\nc.sendall(b'hello')\nc.close()";
        host.spawn("server", &Invocation::new("python3").arguments(["-c", serve])).expect("spawn");
        let ask = "import socket\ns=socket.socket(socket.AF_UNIX)\ns.connect('/run/rap/x.sock')\nprint(s.recv(9).decode())";
        let ask = Invocation::new("python3").arguments(["-c", ask]);
        let answer =
            wait_until(LONG, "an answer", || Ok(host.run(&ask, LONG)?.success().ok())).expect("answer");
        assert_eq!(answer.stdout, "hello\n");
    }

    #[test]
    #[ignore = "needs root"]
    fn down_removes_what_left_every_trace_but_its_namespace() {
        let base = tempfile::tempdir().expect("folder");
        let folder = Folder::at(base.path().join("ns"));
        {
            let lab = lab(&base);
            let host = lab.host("a").expect("a");
            // No mark in the environment, its own session, its parent gone, working elsewhere.
            let script =
                "cd /; env -i setsid sh -c 'sleep 306 & exit' & wait; ip tuntap add dev rap0 mode tun";
            host.run(&shell(script), LONG).expect("run").success().expect("run");
            let left = sweep::leftovers(&folder);
            assert!(left.processes.iter().any(|process| process.ends_with("sleep 306")), "{left:?}");
            assert_eq!(left.namespaces.len(), 2, "{left:?}");
            assert_eq!((left.links.len(), left.tables.len()), (0, 0), "{left:?}");
        }
        sweep::check(&folder).expect("nothing left");
    }

    #[test]
    #[ignore = "needs root"]
    fn a_line_is_slow_until_it_is_fast() {
        let base = tempfile::tempdir().expect("folder");
        let lab = lab(&base);
        rap_lab::programs::install_lab(&lab, Path::new(env!("CARGO_BIN_EXE_rap-lab"))).expect("install");
        let (a, b) = (lab.host("a").expect("a"), lab.host("b").expect("b"));
        let quick = |from: &Host, to: &Host| {
            let ping =
                Invocation::new("ping").arguments(["-c1", "-W0.2", "-n"]).argument(to.address().to_string());
            from.run(&ping, LONG).expect("ping").code == Some(0)
        };
        until("a hears b", true, &a, &b);
        lab.slow("b", Slowness { delay: Duration::from_millis(150), ..Slowness::default() }).expect("slow");
        until("a hears b late", true, &a, &b);
        assert!(!quick(&a, &b), "300 ms do not fit into 200 ms");
        assert!(lab.slow("b", Slowness::default()).is_err(), "slow already");
        lab.fast("b").expect("fast");
        wait_until(LONG, "a quick answer", || Ok(quick(&a, &b).then_some(()))).expect("quick");
        lab.slow("b", Slowness { loss: 1.0, ..Slowness::default() }).expect("lossy");
        assert!(!hears(&a, &b));
    }
}
