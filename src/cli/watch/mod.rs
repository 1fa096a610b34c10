//! `outfall watch`: a running sensor, live in a terminal.

mod scrape;
mod view;

use std::io::{IsTerminal as _, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use ratatui::Frame;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyModifiers};
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::Paragraph;

use crate::config::Config;
use crate::store::{Reading, file_of};
use view::{Section, Tone, View};

/// What `outfall watch` is told.
#[derive(Debug, clap::Args)]
pub struct WatchArgs {
    /// The sensor's configuration file, which says where its metrics and its database are
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Where it tells its metrics [default: `metrics.listen`]
    #[arg(long, value_name = "ADDRESS")]
    metrics: Option<SocketAddr>,

    /// Its database [default: what the configuration says]
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,

    /// Seconds between two looks
    #[arg(long, value_name = "SECONDS", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=3600))]
    every: u64,

    /// Print what there is to see once, as plain text
    #[arg(long)]
    once: bool,
}

/// Alerts and uploads that are looked up.
const NEWEST: usize = 20;

/// Of them, how many are shown in a narrow terminal.
const FEW: usize = 3;

/// How long a key may go unnoticed.
const KEYS: Duration = Duration::from_millis(100);

/// Narrower, sections stand below each other.
const WIDE: u16 = 130;

/// Where to look.
struct Source {
    metrics: Option<SocketAddr>,
    database: Option<PathBuf>,
}

impl Source {
    fn look(&self, view: &mut View, last: &mut Option<Instant>) {
        let answer = match self.metrics {
            Some(address) => scrape::scrape(address),
            None => Err("it tells no metrics (`metrics.listen` is empty)".to_owned()),
        };
        match answer {
            Ok(samples) => {
                let since = last.replace(Instant::now()).map(|last| last.elapsed());
                view.before = view.now.replace(samples).zip(since);
                view.gone = None;
            }
            Err(why) => view.gone = Some(why),
        }
        let newest = |path: &PathBuf| Reading::open(path)?.newest(NEWEST);
        view.newest = self.database.as_ref().map(|path| newest(path).map_err(|error| error.to_string()));
    }
}

/// Shows it until `q` is pressed.
///
/// # Errors
/// If the configuration is refused, or there is no terminal.
pub fn run(args: &WatchArgs) -> anyhow::Result<ExitCode> {
    let config = match &args.config {
        Some(path) => Config::load(path)?,
        None => Config::default(),
    };
    let metrics = args.metrics.or_else(|| config.metrics.listen.parse().ok());
    // A sensor that has kept nothing yet has no file.
    let kept = file_of(&config, args.config.as_deref()).filter(|path| path.exists());
    let source = Source { metrics, database: args.state.clone().or(kept) };
    let (mut view, mut last) = (View::default(), None);
    if args.once {
        source.look(&mut view, &mut last);
        let mut text = String::new();
        for Section { title, lines } in view.sections() {
            text.push_str(&format!("{title}\n"));
            lines.iter().for_each(|(_, line)| text.push_str(&format!("  {line}\n")));
        }
        std::io::stdout().lock().write_all(text.as_bytes()).context("cannot write the output")?;
        return Ok(if view.gone.is_some() { ExitCode::FAILURE } else { ExitCode::SUCCESS });
    }
    ensure!(std::io::stdout().is_terminal(), "standard output is no terminal: use --once for plain text");
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT, signal_hook::consts::SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&stop)).context("cannot catch signals")?;
    }
    // A panic restores the terminal, too.
    let mut terminal = ratatui::try_init().context("the terminal cannot be used")?;
    let shown = (|| -> std::io::Result<()> {
        let (mut looked, mut scroll) = (None::<Instant>, 0_u16);
        while !stop.load(Ordering::Relaxed) {
            if looked.is_none_or(|at| at.elapsed() >= Duration::from_secs(args.every)) {
                source.look(&mut view, &mut last);
                looked = Some(Instant::now());
            }
            terminal.draw(|frame| draw(frame, &view, scroll))?;
            if !event::poll(KEYS)? {
                continue;
            }
            if let Event::Key(key) = event::read()? {
                let interrupt = key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c');
                match key.code {
                    KeyCode::Char('q') | KeyCode::Esc => return Ok(()),
                    _ if interrupt => return Ok(()),
                    KeyCode::Down | KeyCode::Char('j') => scroll = scroll.saturating_add(1),
                    KeyCode::Up | KeyCode::Char('k') => scroll = scroll.saturating_sub(1),
                    KeyCode::PageDown => scroll = scroll.saturating_add(10),
                    KeyCode::PageUp => scroll = scroll.saturating_sub(10),
                    KeyCode::Home => scroll = 0,
                    _ => {}
                }
            }
        }
        Ok(())
    })();
    ratatui::restore();
    shown.context("the terminal cannot be used")?;
    Ok(ExitCode::SUCCESS)
}

/// Two columns where there is room, else one; both are scrolled together.
fn draw(frame: &mut Frame<'_>, view: &View, scroll: u16) {
    let [all, foot] = Layout::vertical([Constraint::Min(1), Constraint::Length(1)]).areas(frame.area());
    let mut sections = view.sections();
    if all.width >= WIDE {
        let (tables, lists): (Vec<Section>, Vec<Section>) =
            sections.into_iter().partition(|section| !section.title.starts_with("Newest"));
        let [left, right] = Layout::horizontal([Constraint::Length(66), Constraint::Min(1)]).areas(all);
        column(frame, left, &tables, scroll);
        column(frame, right, &lists, scroll);
    } else {
        // What is lost and what leaves is both to be seen without scrolling.
        sections
            .iter_mut()
            .filter(|section| section.title.starts_with("Newest"))
            .for_each(|list| list.lines.truncate(FEW));
        column(frame, all, &sections, scroll);
    }
    let keys = Paragraph::new(" q ends   up and down scroll").style(Style::new().add_modifier(Modifier::DIM));
    frame.render_widget(keys, foot);
}

/// Never by colour alone: such lines begin with a mark or a letter, too.
fn style(tone: Tone, colours: bool) -> Style {
    let (style, colour) = match tone {
        Tone::Plain => (Style::new(), None),
        Tone::Worst => (Style::new().add_modifier(Modifier::REVERSED | Modifier::BOLD), Some(Color::Red)),
        Tone::Bad => (Style::new().add_modifier(Modifier::REVERSED), Some(Color::LightRed)),
        Tone::Warn => (Style::new().add_modifier(Modifier::BOLD), Some(Color::Yellow)),
        Tone::Quiet => (Style::new().add_modifier(Modifier::DIM), None),
    };
    colour.filter(|_| colours).map_or(style, |colour| style.fg(colour))
}

fn column(frame: &mut Frame<'_>, area: Rect, sections: &[Section], scroll: u16) {
    // See no-color.org.
    let colours = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let mut lines = Vec::new();
    for section in sections {
        lines.push(Line::styled(section.title, Style::new().add_modifier(Modifier::BOLD)));
        lines.extend(section.lines.iter().map(|(tone, text)| Line::styled(format!("  {text}"), style(*tone, colours))));
    }
    let most = u16::try_from(lines.len()).unwrap_or(u16::MAX).saturating_sub(area.height);
    frame.render_widget(Paragraph::new(lines).scroll((scroll.min(most), 0)), area);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Newest, NewestAlert, NewestUpload};
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    #[test]
    fn how_bad_it_is_shows_with_colours_and_without() {
        let all = [Tone::Plain, Tone::Worst, Tone::Bad, Tone::Warn, Tone::Quiet];
        for colours in [true, false] {
            let mut styles: Vec<Style> = all.map(|tone| style(tone, colours)).to_vec();
            assert!(styles.iter().all(|style| colours || style.fg.is_none()));
            styles.dedup();
            assert_eq!(styles.len(), all.len());
        }
    }

    #[test]
    fn a_small_terminal_and_a_wide_one_show_what_matters_without_scrolling() {
        let alert = NewestAlert { text: "an alert".to_owned(), severity: 73, ..NewestAlert::default() };
        let view = View {
            now: Some(scrape::Samples::read("outfall_build_info 1\noutfall_kernel_dropped_packets_total 7\n")),
            newest: Some(Ok(Newest {
                alerts: vec![alert; NEWEST],
                uploads: vec![NewestUpload::default(); NEWEST],
                running: vec![NewestUpload::default(); NEWEST],
            })),
            ..View::default()
        };
        for (width, height) in [(80, 24), (200, 50), (20, 5), (1, 1)] {
            let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
            for scroll in [0, u16::MAX, 0] {
                terminal.draw(|frame| draw(frame, &view, scroll)).unwrap();
            }
            let shown = terminal.backend().to_string();
            for part in ["Sensor", "an alert", "packets", "kernel_dropped_packets"] {
                assert!(width < 80 || shown.contains(part), "{part}: {shown}");
            }
        }
    }
}
