//! The picture of `podtap top` that the README shows is what it draws, on a real terminal too.
//!
//! `PODTAP_UPDATE_GOLDEN=1 cargo test -p podtap --test pictures` draws it anew; look at it. The picture of `podtap report` is
//! a browser's: `cargo xtask e2e page --write`.

mod support;

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use podtap::top::{Feed, Progress, Screen, Source, Status, draw};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::{Buffer, Cell};
use ratatui::style::{Color, Modifier};
use support::tmux::Tmux;

const CAPTURE: &str = "plugins/http/tests/captures/nginx-tour.pcap";
/// Of a letter, in pixels of the drawing.
const SIZE: (f64, f64) = (8.4, 18.0);
const MARGIN: f64 = 10.0;

/// Colours of a dark terminal, with the contrast that small text needs.
const PAGE: &str = "#16181a";
const TEXT: &str = "#d6d8d4";

fn ink(cell: &Cell) -> &'static str {
    match cell.fg {
        Color::Red => "#ff7b6b",
        Color::Green => "#7ccf7c",
        Color::Yellow => "#e6c35c",
        Color::Cyan => "#62b8d8",
        Color::Magenta => "#d49be0",
        _ if cell.modifier.contains(Modifier::DIM) => "#989e9a",
        _ => TEXT,
    }
}

/// A screen as SVG: letters that look the same together.
fn svg(buffer: &Buffer, title: &str) -> String {
    let (columns, lines) = (f64::from(buffer.area.width), f64::from(buffer.area.height));
    let (width, height) = (columns * SIZE.0 + 2.0 * MARGIN, lines * SIZE.1 + 2.0 * MARGIN);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\" role=\"img\" \
         aria-labelledby=\"t\">\n<title id=\"t\">{title}</title>\n<rect width=\"100%\" height=\"100%\" rx=\"6\" fill=\"{PAGE}\"/>\n\
         <g font-family=\"ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace\" font-size=\"14\">\n"
    );
    for (line, cells) in buffer.content().chunks(usize::from(buffer.area.width)).enumerate() {
        let look =
            |cell: &Cell| (ink(cell), cell.modifier & (Modifier::BOLD | Modifier::REVERSED | Modifier::UNDERLINED));
        let mut start = 0;
        for run in cells.chunk_by(|one, other| look(one) == look(other)) {
            let (x, y) = (MARGIN + start as f64 * SIZE.0, MARGIN + line as f64 * SIZE.1);
            start += run.len();
            let (ink, modifier) = look(&run[0]);
            let text: String = run.iter().map(Cell::symbol).collect();
            let length = run.len() as f64 * SIZE.0;
            let mut fill = ink;
            if modifier.contains(Modifier::REVERSED) {
                let _ = writeln!(
                    out,
                    "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{}\" fill=\"{ink}\"/>",
                    // Without a seam.
                    length + 0.4,
                    SIZE.1
                );
                fill = PAGE;
            }
            let bold = if modifier.contains(Modifier::BOLD) { " font-weight=\"bold\"" } else { "" };
            let line = if modifier.contains(Modifier::UNDERLINED) { " text-decoration=\"underline\"" } else { "" };
            // Word by word, as viewers differ in what they make of blanks.
            let mut column = 0;
            for word in text.split(' ') {
                let length = word.chars().count();
                if length > 0 {
                    let word = word.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
                    let (x, wide) = (x + column as f64 * SIZE.0, length as f64 * SIZE.0);
                    let _ = writeln!(
                        out,
                        "<text x=\"{x:.1}\" y=\"{:.1}\" textLength=\"{wide:.1}\" fill=\"{fill}\"{bold}{line}>{word}</text>",
                        y + 13.5
                    );
                }
                column += length + 1;
            }
        }
    }
    out + "</g>\n</svg>\n"
}

#[test]
fn the_picture_in_the_readme_is_what_top_draws() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let feed = Feed {
        source: Source::Captures(vec![root.join(CAPTURE)], None),
        config: Arc::new(support::config()),
        speed: None,
    };
    let feeding = feed.start(None).unwrap();
    while feeding.progress() == Progress::Reading {
        std::thread::sleep(Duration::from_millis(10));
    }
    let mut terminal = Terminal::new(TestBackend::new(100, 16)).unwrap();
    let mut screen = Screen::new("nginx-tour.pcap", None, true);
    let status = Status { progress: &feeding.progress(), problems: &feeding.problems() };
    terminal.draw(|frame| draw(frame, &mut screen, &feeding.view.lock(), status)).unwrap();
    let drawn = svg(terminal.backend().buffer(), "podtap top: a table of operations with rates and percentiles");
    let path = root.join("docs/images/top.svg");
    if std::env::var_os("PODTAP_UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &drawn).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == drawn,
        "docs/images/top.svg is not what top draws; PODTAP_UPDATE_GOLDEN=1 cargo test -p podtap --test pictures"
    );

    let Some(tmux) = Tmux::start(100, 16) else { return };
    let program = env!("CARGO_BIN_EXE_podtap");
    tmux.keys(&[&format!("clear; {program} top {}", root.join(CAPTURE).display()), "Enter"]);
    tmux.wait_for("at the end");
    let lines = support::lines(terminal.backend().buffer());
    // It is drawn from above; nothing of it changes any more.
    let shown = tmux.wait_for(lines.last().unwrap().trim_end());
    assert_eq!(shown.lines().collect::<Vec<_>>(), lines.iter().map(|line| line.trim_end()).collect::<Vec<_>>());
}
