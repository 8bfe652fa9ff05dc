//! The page of made-up reports: what a reader finds on it.

use super::super::{Goal, Latency, Machine, Report, Row, Sheet, Spread};
use super::losses::{self, Measure};
use super::sides::Side;
use super::{render, summary_svg, summary_table};

/// Figures of an earlier run: `of gen` at 50 and at 1000 connections.
const OF_GEN: [(&str, f64, f64); 6] = [
    ("raw_uring", 1.00, 1.00),
    ("raw_epoll", 1.04, 1.06),
    ("greenring, reader()", 1.06, 1.15),
    ("tokio, current_thread", 1.12, 1.20),
    ("may, 1 worker", 1.32, 1.51),
    ("OS threads", 1.05, 2.92),
];

fn spread(median: f64) -> Spread {
    Spread {
        median,
        lower: median * 0.99,
        upper: median * 1.01,
        rounds: vec![median * 0.99, median, median * 1.01],
    }
}

fn row(server: &str, of_gen: f64) -> Row {
    Row {
        server: server.to_owned(),
        version: String::new(),
        cpu_us_per_request: spread(3.3 * of_gen),
        of_gen: spread(of_gen),
        requests_per_second: spread(174_000.0 / of_gen),
        latency_us: Latency {
            p50: spread(236.0 * of_gen),
            p99: spread(440.0 * of_gen),
            p999: spread(1900.0 * of_gen),
        },
        rss_mib: 6.8,
        rss_per_idle_connection: Some(4400.0),
        enters_per_request: None,
        errors: 0,
        refused: None,
    }
}

fn sheet(connections: usize, rows: Vec<Row>) -> Sheet {
    Sheet {
        name: format!("64 B, {connections} connections"),
        connections,
        payload: 64,
        pipelining: 1,
        connect_per_request: false,
        rows,
    }
}

fn report(sheets: Vec<Sheet>) -> Report {
    Report {
        date: "2026-11-21T17:00:00Z".to_owned(),
        machine: Machine {
            kernel: "6.18.44".to_owned(),
            cpu: "AMD EPYC".to_owned(),
            cpus: 2,
            memory_mib: 24105,
            rustc: "rustc 1.95.0".to_owned(),
            getppid_ns: 125.0,
            send_recv_ns: 2750.0,
            greenring: "0.1.0".to_owned(),
            backend_reason: "io_uring, the automatic choice".to_owned(),
        },
        command: "cargo run --release -p greenring-peers -- report".to_owned(),
        rounds: 3,
        seconds: 0.5,
        sheets,
        goals: Vec::new(),
    }
}

fn usual() -> Report {
    let at_1000 = OF_GEN.map(|(server, _, of_gen)| row(server, of_gen));
    let at_50 = OF_GEN.map(|(server, of_gen, _)| row(server, of_gen));
    report(vec![sheet(1000, at_1000.into()), sheet(50, at_50.into())])
}

fn refuse(row: &mut Row, reason: &str) {
    row.refused = Some(reason.to_owned());
    for figure in [
        &mut row.cpu_us_per_request,
        &mut row.of_gen,
        &mut row.requests_per_second,
    ] {
        *figure = Spread::default();
    }
    row.latency_us = Latency::default();
    row.rss_per_idle_connection = None;
}

#[test]
fn the_page_fetches_nothing_and_runs_nothing() {
    let page = render(&usual()).unwrap();
    let page = page.replace("http://www.w3.org/2000/svg", "");
    for outside in ["http:", "https:", "<script", "<link", "src=", "url("] {
        assert!(!page.contains(outside), "{outside}");
    }
    assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
}

#[test]
fn markup_in_a_report_is_text_on_the_page() {
    let mut report = usual();
    report.command = "run </pre><b>&".to_owned();
    report.sheets[0].name = "<i>sheet</i>".to_owned();
    report.sheets[0].rows[2].server = "greenring <u>\"x\"</u>".to_owned();
    refuse(&mut report.sheets[1].rows[3], "<s>no</s>");
    let page = render(&report).unwrap();
    for markup in ["</pre><b>", "<i>sheet", "<u>", "<s>"] {
        assert!(!page.contains(markup), "{markup}");
        assert!(!summary_svg(&report).unwrap().contains(markup), "{markup}");
    }
    assert!(page.contains("run &lt;/pre&gt;&lt;b&gt;&amp;"));
    assert!(page.contains("refused: &lt;s&gt;no&lt;/s&gt;"));
}

#[test]
fn a_server_that_was_refused_is_shown_with_its_reason() {
    let mut report = usual();
    refuse(&mut report.sheets[0].rows[2], "4096 open files");
    let page = render(&report).unwrap();
    assert!(page.contains("refused: 4096 open files"));
    assert!(!page.contains("NaN"));
    assert!(summary_table(&report).contains("| refused |"));
    let standings = losses::standings(&report, Measure::OfGen);
    let compared: Vec<usize> = standings.iter().map(|it| it.sheet.connections).collect();
    assert_eq!(compared, [50]);
}

#[test]
fn figures_that_were_not_measured_are_dashes() {
    let mut report = usual();
    for row in &mut report.sheets[0].rows {
        row.of_gen = Spread {
            median: f64::NAN,
            ..Spread::default()
        };
        row.latency_us.p999.median = f64::INFINITY;
        row.rss_per_idle_connection = None;
        row.rss_mib = f64::NAN;
    }
    report.goals.push(Goal {
        row: "not asked".to_owned(),
        limit: 1.0,
        measured: f64::NAN,
        met: false,
    });
    let page = render(&report).unwrap();
    assert!(page.contains("not measured"));
    assert!(!page.contains("NaN") && !page.contains("inf"));
    assert!(summary_table(&report).contains("(–)"));
}

#[test]
fn an_empty_report_and_an_empty_sheet_have_a_page() {
    let empty = report(Vec::new());
    assert!(render(&empty).unwrap().contains("Nothing was measured"));
    assert!(summary_svg(&empty).unwrap().contains("not measured"));
    let empty = report(vec![sheet(50, Vec::new())]);
    assert!(render(&empty).unwrap().contains("No server was measured"));
    assert!(summary_svg(&empty).unwrap().ends_with("</svg>\n"));
}

#[test]
fn quartiles_of_a_single_round_are_left_out() {
    let one = Spread {
        median: 1.06,
        lower: 1.06,
        upper: 1.06,
        rounds: vec![1.06],
    };
    let mut report = report(vec![sheet(50, vec![row("greenring, reader()", 1.06)])]);
    report.sheets[0].rows[0].of_gen = one;
    let page = render(&report).unwrap();
    assert!(page.contains("<td>1.06</td>"));
    assert!(!page.contains("1.06–1.06"));
}

#[test]
fn every_loss_is_listed_and_a_close_one_is_called_close() {
    let report = usual();
    let standings = losses::standings(&report, Measure::OfGen);
    let [at_1000, at_50] = &standings[..] else {
        panic!("{standings:?}");
    };
    assert_eq!(at_1000.losses_to(Side::Runtime).count(), 0);
    assert_eq!(at_1000.losses_to(Side::HandWritten).count(), 2);
    assert_eq!(at_50.best.server, "greenring, reader()");
    let losses: Vec<_> = at_50.losses_to(Side::Runtime).collect();
    assert_eq!(losses.len(), 1);
    assert_eq!(losses[0].server, "OS threads");
    assert_eq!((losses[0].theirs, at_50.ours), (1.05, 1.06));
    assert!(losses[0].is_close);
}

#[test]
fn a_goal_is_met_or_not_met() {
    let mut report = usual();
    for (limit, measured) in [(1.05, 1.06), (1.12, 1.10)] {
        report.goals.push(Goal {
            row: format!("greenring / raw_uring at most {limit}"),
            limit,
            measured,
            met: measured <= limit,
        });
    }
    let page = render(&report).unwrap();
    assert!(page.contains("1 of 2 are met"));
    assert!(page.contains(">met<") && page.contains(">not met<"));
}

#[test]
fn errors_stand_out() {
    let mut report = usual();
    report.sheets[0].rows[4].errors = 7;
    let page = render(&report).unwrap();
    assert!(page.contains("<td class=\"bad\">7</td>"));
}

#[test]
fn the_table_for_the_readme_goes_by_connections_and_sets_greenring_in_bold() {
    let table = summary_table(&usual());
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(
        lines[0],
        "| µs per request (of gen) | 50 connections | 1\u{202f}000 connections |"
    );
    assert_eq!(lines[1], "|---|---|---|");
    assert_eq!(lines[2], "| raw\\_uring | 3.30 (1.00) | 3.30 (1.00) |");
    assert_eq!(
        lines[4],
        "| **greenring, reader()** | 3.50 (1.06) | 3.79 (1.15) |"
    );
    assert_eq!(lines.len(), 2 + OF_GEN.len());
}

#[test]
fn the_chart_for_the_readme_has_a_background_of_its_own() {
    let svg = summary_svg(&usual()).unwrap();
    assert!(svg.starts_with("<svg"));
    assert!(svg.contains("fill=\"#FFFFFF\""));
    for (server, ..) in OF_GEN {
        assert_eq!(svg.matches(&format!("\n{server}\n")).count(), 2, "{server}");
    }
}
