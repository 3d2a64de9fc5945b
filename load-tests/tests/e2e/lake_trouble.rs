//! A lake that refuses: people are told once and in words that help, nothing is written where it must not be, and
//! when the cause goes the work goes on without a restart.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use load_tests::{Child, Fault, Instance, Poster, Request, SHIPPED, Scene, Verb, Window, get, metric, until};
use pintail::demo::Kind;
use tokio::process::Command;

use crate::places::with_a_commit;

const PINTAIL: &str = env!("CARGO_BIN_EXE_load-tests");
/// The one line that says that a person may be needed.
const TOLD: &str = "lake table cannot be written";

struct Play {
    scene: Scene,
    poster: Poster,
    child: Child,
    address: SocketAddr,
}

impl Play {
    /// A process that has committed something of each of these streams.
    async fn of(streams: &[Kind], scene: Scene) -> anyhow::Result<Self> {
        Self::by(Command::new(PINTAIL), streams, scene).await
    }

    async fn by(program: Command, streams: &[Kind], mut scene: Scene) -> anyhow::Result<Self> {
        let (poster, mut child) = with_a_commit(program, streams, &mut scene).await?;
        let address = child.address().await?;
        Ok(Self { scene, poster, child, address })
    }

    /// Waits until `/readyz` is 503 and says why of this stream, in these words.
    async fn until_unready(&mut self, stream: Kind, words: &[&str]) -> anyhow::Result<()> {
        let (mut said, child, address) = (String::new(), &mut self.child, self.address);
        let told = until("readiness is lost and the reason told", async || {
            child.alive()?;
            let answer = get(address, "/readyz").await?;
            let streams = answer.json()?["streams"].as_array().cloned().unwrap_or_default();
            let of_stream = streams.into_iter().find(|entry| entry["stream"] == stream.name());
            said = of_stream.map(|entry| entry["trouble"]["lake"].to_string()).unwrap_or_default();
            Ok((answer.status == 503 && words.iter().all(|word| said.contains(word))).then_some(()))
        });
        told.await.with_context(|| format!("it says {said}; {}", self.child.story()))
    }

    async fn until_ready(&mut self) -> anyhow::Result<()> {
        let (child, address) = (&mut self.child, self.address);
        until("it is ready again", async || {
            child.alive()?;
            Ok((get(address, "/readyz").await?.status == 200).then_some(()))
        })
        .await
    }

    /// Waits until each of these sealed tables has more rows than so many.
    async fn until_sealed(&mut self, more_than: &BTreeMap<&'static str, u64>) -> anyhow::Result<()> {
        let (scene, child) = (&self.scene, &mut self.child);
        let sealed = until("windows are sealed", async || {
            child.alive()?;
            for (table, rows) in more_than {
                if scene.table(table).await?.rows() <= *rows {
                    return Ok(None);
                }
            }
            Ok(Some(()))
        });
        sealed.await.with_context(|| self.child.story())
    }

    /// Waits until so many looks at each window have failed to seal it, by its own count.
    async fn until_seals_fail(&mut self, times: f64) -> anyhow::Result<()> {
        let (child, address) = (&mut self.child, self.address);
        let failed = until("looks at every window have failed", async || {
            child.alive()?;
            let metrics = get(address, "/metrics").await?.body;
            let failed = |window: Window| {
                let labels = format!("table=\"{}\",step=\"seal\"", window.name);
                metric(&metrics, "pintail_maintenance_failures_total", &labels).unwrap_or_default()
            };
            Ok(SHIPPED.into_iter().all(|window| failed(window) >= times).then_some(()))
        });
        failed.await.with_context(|| self.child.story())
    }

    /// How often its log says that something is wrong: by the words, and by what they are said of.
    fn complaints(&self) -> anyhow::Result<BTreeMap<String, usize>> {
        let mut complaints: BTreeMap<String, usize> = BTreeMap::new();
        for line in self.child.stderr()?.lines() {
            // The last line may be half-written.
            let entry: serde_json::Value = serde_json::from_str(line).unwrap_or_default();
            if entry["level"] == "WARN" || entry["level"] == "ERROR" {
                let said = ["message", "stream", "table", "window", "step"].map(|key| entry[key].to_string());
                *complaints.entry(said.join(" ")).or_default() += 1;
            }
        }
        Ok(complaints)
    }

    /// Everything is committed, the trouble of each stream was told once, and the tables are right.
    async fn end(mut self) -> anyhow::Result<Scene> {
        self.scene.caught_up(&self.poster.log, &mut self.child).await?;
        self.until_ready().await?;
        for stream in self.scene.settings.streams.clone() {
            let table = format!("\"table\":\"{}\"", stream.name());
            let told = self.child.lines(&[TOLD, &table])?;
            ensure!(told.len() == 1, "told {} times: {told:#?}", told.len());
            let attempts = self.child.lines(&["lake attempt failed", &table])?;
            ensure!(attempts.len() <= 2, "a line for each attempt: {attempts:#?}");
        }
        assert_eq!(self.child.terminate().await?.code(), Some(0));
        self.scene.verify(&self.poster.log).await?;
        Ok(self.scene)
    }
}

/// What S3 answers to every request for a stream's tables, and the words that must say so.
type Answers = [(Kind, u16, &'static str, &'static [&'static str]); 3];

async fn are_told_and_recovered_from(answers: Answers) -> anyhow::Result<()> {
    let mut play = Play::of(&Kind::ALL, Scene::on_s3(1).await?).await?;
    for (kind, code, s3_code, _) in answers {
        let of_stream = move |r: &Request<'_>| r.key.starts_with(&format!("tables/{}/", kind.name()));
        play.scene.s3()?.faults().add(of_stream, Fault::Status { code, s3_code }, None);
    }
    play.poster.post(300, 6_000.0).await?;
    for (kind, _, _, words) in answers {
        play.until_unready(kind, words).await?;
    }
    play.poster.post(300, 6_000.0).await?;
    play.scene.s3()?.faults().clear();
    play.end().await.map(|_| ())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_that_s3_does_not_take_any_more_are_named_and_their_renewal_is_enough() -> anyhow::Result<()> {
    let answers = [
        (Kind::Pin, 403, "ExpiredToken", &["403", "ExpiredToken"][..]),
        (Kind::Geo, 403, "InvalidAccessKeyId", &["403", "InvalidAccessKeyId"]),
        (Kind::User, 403, "AccessDenied", &["403", "AccessDenied"]),
    ];
    are_told_and_recovered_from(answers).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_that_vanishes_or_is_of_another_region_is_named_and_its_return_is_enough() -> anyhow::Result<()> {
    let answers = [
        (Kind::Pin, 404, "NoSuchBucket", &["404", "NoSuchBucket"][..]),
        (Kind::Geo, 400, "AuthorizationHeaderMalformed", &["400", "AuthorizationHeaderMalformed"]),
        (Kind::User, 301, "PermanentRedirect", &["region"]),
    ];
    are_told_and_recovered_from(answers).await
}

/// Rows and rejects of each stream, partials and sealed rows of each window.
const TABLES: usize = 2 * (Kind::ALL.len() + SHIPPED.len());

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_that_is_away_for_long_costs_a_few_lines_a_table_and_sealing_goes_on_after_it() -> anyhow::Result<()> {
    let mut scene = Scene::on_s3(1).await?;
    scene.shorten_windows(1)?;
    scene.settings.sections = "[maintenance]\ninterval = \"200ms\"\n".to_owned();
    let mut play = Play::of(&Kind::ALL, scene).await?;
    play.until_sealed(&SHIPPED.map(|window| (window.name, 0)).into()).await?;

    // It begins in the middle of a seal: whoever then has nothing to seal finds nothing new, and nothing wrong.
    let away = Fault::Status { code: 404, s3_code: "NoSuchBucket" };
    play.scene.s3()?.faults().add(|r| r.verb == Verb::Put && r.key.contains("/seal-"), away, None);
    play.poster.post(300, 6_000.0).await?;
    play.until_seals_fail(1.0).await?;
    let refused = play.scene.s3()?.faults().add(|_| true, away, None);
    play.poster.post(300, 6_000.0).await?;
    for kind in Kind::ALL {
        play.until_unready(kind, &["NoSuchBucket"]).await?;
    }
    play.until_seals_fail(20.0).await?;
    let (faults, address) = (play.scene.s3()?.faults(), play.address);
    until("500 requests were refused", async || Ok((faults.hits(refused) >= 500).then_some(()))).await?;
    assert_eq!(get(address, "/readyz").await?.status, 503);
    let complaints = play.complaints()?;
    assert!(complaints.values().all(|times| *times <= 3), "{complaints:#?}");
    assert!(complaints.values().sum::<usize>() <= 3 * TABLES, "{complaints:#?}");

    faults.clear();
    let mut sealed = BTreeMap::new();
    for window in SHIPPED {
        sealed.insert(window.name, play.scene.table(window.name).await?.rows());
    }
    play.until_sealed(&sealed).await?;
    for window in SHIPPED {
        let table = format!("\"table\":\"{}\"", window.name);
        assert_eq!(play.child.lines(&["windows can be sealed again", &table])?.len(), 1, "{table}");
    }
    play.end().await.map(|_| ())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_that_were_wiped_and_made_again_are_refused_and_nothing_is_written_into_them() -> anyhow::Result<()> {
    let mut play = Play::of(&[Kind::Geo], Scene::on_s3(1).await?).await?;
    // The followers have nothing in the air any more either.
    until("all tables are complete", async || Ok(play.scene.verify(&play.poster.log).await.ok())).await?;
    ensure!(play.scene.s3()?.remove_prefix("tables/") > 0);
    let mut maker = play.scene.spawn(PINTAIL)?;
    maker.ready().await?;
    play.scene.caught_up(&play.poster.log, &mut maker).await?;
    assert_eq!(maker.terminate().await?.code(), Some(0));
    let made = play.scene.s3()?.keys("tables/");

    play.poster.post(300, 6_000.0).await?;
    play.until_unready(Kind::Geo, &["table geo is refused", "restart Pintail"]).await?;
    let log = |key: &&String| key.contains("/_delta_log/");
    let now = play.scene.s3()?.keys("tables/");
    assert_eq!(now.iter().filter(log).collect::<Vec<_>>(), made.iter().filter(log).collect::<Vec<_>>());
    ensure!(play.child.lines(&[TOLD, "geo"])?.len() == 1, "{}", play.child.story());
    play.child.kill_9().await?;

    let mut next = play.scene.spawn(PINTAIL)?;
    next.ready().await?;
    play.scene.caught_up(&play.poster.log, &mut next).await?;
    assert_eq!(next.terminate().await?.code(), Some(0));
    play.scene.verify(&play.poster.log).await?;
    Ok(())
}

/// Sets the largest file that a process may write: a disk that is full, for whoever is not root.
fn limit_file_size(child: &Child, bytes: &str) -> anyhow::Result<()> {
    let (pid, limit) = (child.pid()?.to_string(), format!("--fsize={bytes}:"));
    let status = std::process::Command::new("prlimit").args(["--pid", &pid, &limit]).status();
    ensure!(status.context("prlimit")?.success(), "prlimit {limit} failed");
    Ok(())
}

/// Every file of a folder's tree that no reader of the table knows.
fn leftovers(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(leftovers(&path)?);
        } else if !path.extension().is_some_and(|extension| extension == "parquet" || extension == "json") {
            found.push(path);
        }
    }
    Ok(found)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_is_full_is_told_and_room_is_enough() -> anyhow::Result<()> {
    let mut scene = Scene::new(1).await?;
    scene.settings.flush_interval_ms = 2_000;
    // Whoever ignores the signal gets the error instead.
    let mut program = Command::new("sh");
    program.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\"", PINTAIL]);
    let mut play = Play::by(program, &[Kind::Geo], scene).await?;
    limit_file_size(&play.child, "8192")?;
    play.poster.post(6_000, 12_000.0).await?;
    play.until_unready(Kind::Geo, &["File too large"]).await?;
    limit_file_size(&play.child, "unlimited")?;
    let scene = play.end().await?;
    assert_eq!(leftovers(&scene.lake())?, Vec::<PathBuf>::new());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_that_is_away_for_a_while_is_waited_for_and_takes_no_record_with_it() -> anyhow::Result<()> {
    let mut play = Play::of(&[Kind::Geo], Scene::new(1).await?).await?;
    let lake = play.scene.lake();
    let (away, made) = (lake.with_extension("away"), lake.with_extension("made"));
    std::fs::rename(&lake, &away)?;
    play.poster.post(1_000, 5_000.0).await?;
    play.until_unready(Kind::Geo, &["is the folder away?"]).await?;
    // Files were written meanwhile: the way to them is made anew, and may be once more between these two.
    until("the folder is back", async || {
        if lake.exists() {
            std::fs::rename(&lake, &made)?;
        }
        let is_back = std::fs::rename(&away, &lake).is_ok();
        if !is_back {
            std::fs::remove_dir_all(&made)?;
        }
        Ok(is_back.then_some(()))
    })
    .await?;
    assert!(made.exists(), "nothing was written into another folder, so nothing was shown");
    play.until_ready().await?;
    play.end().await.map(drop)
}
