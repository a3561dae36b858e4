//! How a container starts, is talked to, and ends.

use super::Test;
use super::world::{World, block_on, output_of, read_until, run, run_with};
use coffer_core_channel::Winsize;
use coffer_guest_containers::Container;
use std::fs;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

pub(crate) const TESTS: &[Test] = &[
    ("exit_code_is_the_workloads", exit_code),
    ("signal_reaches_the_workload", signal),
    ("killed_workload_ends_with_128_and_the_signal", killed),
    ("input_ends_when_dropped", input_ends),
    ("output_and_error_are_apart_and_whole", output_is_whole),
    ("output_that_the_workload_closes_ends", closed_output),
    ("terminal_is_real_and_takes_sizes", terminal),
    ("orphans_end_with_the_workload", orphans),
    ("dropping_a_container_kills_it", dropped),
    ("wait_may_be_interrupted", interrupted_wait),
    ("two_containers_run_beside_each_other", two),
];

fn exit_code() {
    let world = World::new();
    for code in [0, 1, 42, 255] {
        let outcome = run(&world.shell(&format!("exit {code}")));
        assert_eq!((outcome.exit.code, outcome.exit.signal), (code, None));
    }
}

fn signal() {
    let world = World::new();
    let spec = world.shell("trap 'echo caught; exit 7' TERM; echo ready; while true; do sleep 0.05; done");
    block_on(async {
        let mut running = Container::start(&spec).await.unwrap();
        let mut stdout = running.stdout.take().unwrap();
        read_until(&mut stdout, "ready\n").await;
        running.controller().signal(15).unwrap();
        read_until(&mut stdout, "caught\n").await;
        assert_eq!(running.wait().await.unwrap().code, 7);
    });
}

fn killed() {
    let world = World::new();
    block_on(async {
        let mut running = Container::start(&world.spec(&["sleep", "600"])).await.unwrap();
        // Without a handler, process 1 ignores all but this.
        running.controller().signal(15).unwrap();
        running.controller().signal(9).unwrap();
        let exit = running.wait().await.unwrap();
        assert_eq!((exit.code, exit.signal, exit.out_of_memory), (137, Some(9), false));
        assert!(running.controller().signal(9).is_err(), "nobody is left to be signalled");
    });
}

fn input_ends() {
    let world = World::new();
    let outcome = run_with(&world.spec(&["cat"]), b"one\ntwo\n").unwrap();
    assert_eq!((outcome.exit.code, outcome.out.as_str()), (0, "one\ntwo\n"));
}

fn output_is_whole() {
    let world = World::new();
    let outcome = run(&world.shell("busybox seq 1 30000; echo aside >&2"));
    let expected: String = (1..=30000).map(|n| format!("{n}\n")).collect();
    assert!(outcome.out == expected);
    assert_eq!(outcome.err, "aside\n");
}

fn closed_output() {
    let world = World::new();
    block_on(async {
        let spec = world.shell("echo last; exec >&-; cat");
        let mut running = Container::start(&spec).await.unwrap();
        let mut text = String::new();
        running.stdout.take().unwrap().read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "last\n", "the output ended while the workload still runs");
        drop(running.stdin.take());
        assert_eq!(running.wait().await.unwrap().code, 0);
    });
}

fn terminal() {
    let world = World::new();
    let mut spec = world.shell(
        "tty; test -t 0 && test -t 1 && test -t 2 && echo $TERM; stty size; read line; echo got $line; \
         stty size; test -c /dev/console && cat",
    );
    spec.user = "app".to_owned();
    spec.terminal = Some(Winsize { rows: 24, cols: 80 });
    block_on(async {
        let mut running = Container::start(&spec).await.unwrap();
        assert!(running.stderr.is_none());
        let (mut stdin, mut stdout) = (running.stdin.take().unwrap(), running.stdout.take().unwrap());
        let text = read_until(&mut stdout, "24 80\r\n").await;
        assert!(text.contains("/dev/pts/0\r\n") && text.contains("xterm\r\n"), "{text}");
        running.controller().resize(Winsize { rows: 50, cols: 132 }).unwrap();
        stdin.write_all(b"hello\n").await.unwrap();
        let text = read_until(&mut stdout, "50 132\r\n").await;
        assert!(text.contains("got hello\r\n"), "{text}");
        stdin.write_all(&[4]).await.unwrap();
        let mut rest = Vec::new();
        stdout.read_to_end(&mut rest).await.expect("a terminal ends without an error");
        assert_eq!(running.wait().await.unwrap().code, 0);
    });
}

fn orphans() {
    let world = World::new();
    // The orphan holds standard output: reading it to its end shows that the orphan is gone.
    let outcome = run(&world.shell("(sleep 600 &) ; echo bye"));
    assert_eq!((outcome.exit.code, outcome.out.as_str()), (0, "bye\n"));
}

fn dropped() {
    let world = World::new();
    block_on(async {
        let mut running = Container::start(&world.shell("sleep 600 & sleep 600")).await.unwrap();
        let (mut stdout, controller) = (running.stdout.take().unwrap(), running.controller());
        drop(running);
        let mut text = String::new();
        stdout.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "", "the output ended: all processes are gone");
        assert!(controller.signal(9).is_err());
    });
}

fn interrupted_wait() {
    let world = World::new();
    block_on(async {
        let mut running = Container::start(&world.spec(&["cat"])).await.unwrap();
        tokio::select! {
            biased;
            _ = running.wait() => panic!("the workload waits for input"),
            () = std::future::ready(()) => {}
        }
        drop(running.stdin.take());
        assert_eq!(running.wait().await.unwrap().code, 0);
    });
}

fn two() {
    let (one, other) = (World::new(), World::new());
    fs::write(one.root().join("mine"), "one").unwrap();
    block_on(async {
        let mut first = Container::start(&one.shell("read x; cat /mine")).await.unwrap();
        let mut second = Container::start(&other.shell("cat /mine; ps | grep -c cat")).await.unwrap();
        assert_eq!(second.wait().await.unwrap().code, 0);
        first.stdin.take().unwrap().write_all(b"go\n").await.unwrap();
        let mut text = String::new();
        first.stdout.take().unwrap().read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "one");
        assert_eq!(first.wait().await.unwrap().code, 0);
    });
    assert_eq!(output_of(&other.spec(&["echo", "still"])), "still\n");
}
