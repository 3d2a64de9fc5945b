//! S3 credentials from the AWS SDK's default chain, renewed minutes before they expire. The same for AWS and for
//! a custom endpoint: environment, profile, web identity, container or instance, whichever answers first.
//!
//! A commit that starts with credentials about to expire can fail half-way through its retries, so the cache never
//! runs to the last second. While renewal fails or takes its time, the old ones serve as long as they live.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use object_store::CredentialProvider;
use object_store::aws::AwsCredential;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::moment::MomentClock;
use crate::error_chain::chain;
use crate::tell::Tell;

/// Renew this long before expiry.
const RENEW_BEFORE_MS: i64 = 5 * 60 * 1000;
/// Ask again for credentials that name no expiry: a profile may have been edited.
const RECHECK_MS: i64 = 60 * 60 * 1000;
/// After a failed renewal, ask again this late; the old ones serve meanwhile.
const RETRY_MS: i64 = 20 * 1000;
/// See [`ChainCredentials::patience`].
const RENEW_PATIENCE: Duration = Duration::from_secs(5);

/// The default chain behind object_store's door.
#[derive(Debug)]
pub(crate) struct ChainCredentials {
    chain: SharedCredentialsProvider,
    clock: MomentClock,
    held: Mutex<Option<Held>>,
    /// Whoever has it waits for new ones.
    renewal: tokio::sync::Mutex<Renewal>,
    /// How long a request waits for new ones while the old ones live.
    patience: Duration,
}

#[derive(Debug, Clone)]
struct Held {
    credential: Arc<AwsCredential>,
    renew_at_ms: i64,
    expires_at_ms: Option<i64>,
}

/// Goes on when whoever began it has had enough.
#[derive(Debug, Default)]
struct Renewal {
    asked: JoinSet<object_store::Result<Held>>,
    trouble: Tell,
}

impl ChainCredentials {
    pub fn new(chain: SharedCredentialsProvider, clock: MomentClock) -> Self {
        let (held, renewal) = (Mutex::default(), tokio::sync::Mutex::default());
        Self { chain, clock, held, renewal, patience: RENEW_PATIENCE }
    }

    fn now_ms(&self) -> i64 {
        self.clock.now().wall_ms
    }

    fn held(&self) -> Option<Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn hold(&self, credentials: Held) -> Arc<AwsCredential> {
        let credential = Arc::clone(&credentials.credential);
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = Some(credentials);
        credential
    }

    /// New ones. As long as there are old ones, not for long: what comes later is there for whoever asks next.
    async fn renewed(&self, renewal: &mut Renewal, are_needed: bool) -> object_store::Result<Held> {
        if renewal.asked.is_empty() {
            renewal.asked.spawn(ask(self.chain.clone(), self.clock.clone()));
        }
        let answer = renewal.asked.join_next();
        let answer = if are_needed { answer.await } else { timeout(self.patience, answer).await.unwrap_or(None) };
        match answer {
            Some(Ok(found)) => found,
            Some(Err(broken)) => Err(object_store::Error::Generic { store: "S3", source: Box::new(broken) }),
            None => {
                let source = format!("no answer within {:?}, and still waiting", self.patience).into();
                Err(object_store::Error::Generic { store: "S3", source })
            }
        }
    }
}

async fn ask(chain: SharedCredentialsProvider, clock: MomentClock) -> object_store::Result<Held> {
    let credentials = chain
        .provide_credentials()
        .await
        .map_err(|source| object_store::Error::Generic { store: "S3", source: Box::new(source) })?;
    let now_ms = clock.now().wall_ms;
    let expires_at_ms = credentials.expiry().map(|at| {
        at.duration_since(std::time::UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(0))
    });
    // Some providers hand out what is itself nearly spent; asking on every request would not make it younger.
    let renew_at_ms = expires_at_ms.map_or(now_ms + RECHECK_MS, |at| (at - RENEW_BEFORE_MS).max(now_ms + RETRY_MS));
    let credential = AwsCredential {
        key_id: credentials.access_key_id().to_owned(),
        secret_key: credentials.secret_access_key().to_owned(),
        token: credentials.session_token().map(str::to_owned),
    };
    Ok(Held { credential: Arc::new(credential), renew_at_ms, expires_at_ms })
}

#[async_trait]
impl CredentialProvider for ChainCredentials {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        let is_fresh = |held: &Held| self.now_ms() < held.renew_at_ms;
        let lives = |held: &Held| held.expires_at_ms.is_none_or(|at| self.now_ms() < at);
        if let Some(held) = self.held().filter(is_fresh) {
            return Ok(held.credential);
        }
        let mut renewal = match (self.renewal.try_lock(), self.held().filter(lives)) {
            (Ok(renewal), _) => renewal,
            (Err(_), Some(old)) => return Ok(old.credential),
            (Err(_), None) => self.renewal.lock().await,
        };
        // Somebody else may have just renewed them.
        if let Some(held) = self.held().filter(is_fresh) {
            return Ok(held.credential);
        }
        let old = self.held().filter(lives);
        match (self.renewed(&mut renewal, old.is_none()).await, old) {
            (Ok(fresh), _) => {
                if renewal.trouble.is_over() {
                    tracing::info!("s3 credentials are renewed again");
                }
                Ok(self.hold(fresh))
            }
            (Err(error), Some(old)) => {
                let error = chain(&error);
                if renewal.trouble.is_news(&error, Instant::now()) {
                    tracing::warn!(error, "renewing s3 credentials failed, the old ones serve until they expire");
                }
                let retry_at_ms = self.now_ms() + RETRY_MS;
                let renew_at_ms = old.expires_at_ms.map_or(retry_at_ms, |at| retry_at_ms.min(at));
                Ok(self.hold(Held { renew_at_ms, ..old }))
            }
            (Err(error), None) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
    use std::time::UNIX_EPOCH;

    use aws_credential_types::Credentials;
    use aws_credential_types::provider::error::CredentialsError;
    use aws_credential_types::provider::future;
    use tokio::sync::Semaphore;

    use super::*;
    use crate::lake::moment::Moment;

    /// Hands out key `k<n>` with an hour to live; fails from the third call on, for so many calls.
    #[derive(Debug)]
    struct Issuer {
        calls: AtomicU64,
        failures: u64,
        now_ms: Arc<AtomicI64>,
        hangs: Arc<Semaphore>,
    }

    impl ProvideCredentials for Issuer {
        fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
        where
            Self: 'a,
        {
            let call = self.calls.fetch_add(1, Ordering::Relaxed);
            if (2..2 + self.failures).contains(&call) {
                return future::ProvideCredentials::ready(Err(CredentialsError::not_loaded("away")));
            }
            let expiry_ms = self.now_ms.load(Ordering::Relaxed) + 3_600_000;
            let expiry = UNIX_EPOCH + Duration::from_millis(expiry_ms.unsigned_abs());
            let credentials = Credentials::new(format!("k{call}"), "s", None, Some(expiry), "test");
            future::ProvideCredentials::new(async {
                let _one_at_a_time = self.hangs.acquire().await;
                Ok(credentials)
            })
        }
    }

    fn provider(failures: u64, now_ms: &Arc<AtomicI64>) -> ChainCredentials {
        provider_that_hangs(failures, now_ms, &Arc::new(Semaphore::new(1)))
    }

    /// It answers while it can have this.
    fn provider_that_hangs(failures: u64, now_ms: &Arc<AtomicI64>, hangs: &Arc<Semaphore>) -> ChainCredentials {
        let (now_ms_too, hangs) = (Arc::clone(now_ms), Arc::clone(hangs));
        let issuer = Issuer { calls: AtomicU64::new(0), failures, now_ms: now_ms_too, hangs };
        let now_ms = Arc::clone(now_ms);
        let clock = MomentClock::of(move || Moment { wall_ms: now_ms.load(Ordering::Relaxed), boot_ms: 0 });
        ChainCredentials::new(SharedCredentialsProvider::new(issuer), clock)
    }

    #[tokio::test]
    async fn credentials_are_renewed_before_they_expire_and_the_old_ones_serve_while_that_fails() {
        let now_ms = Arc::new(AtomicI64::new(1_000_000));
        let provider = provider(u64::MAX - 2, &now_ms);
        let key = async || provider.get_credential().await.map(|credential| credential.key_id.clone());

        assert_eq!(key().await.unwrap(), "k0");
        now_ms.fetch_add(54 * 60_000, Ordering::Relaxed);
        assert_eq!(key().await.unwrap(), "k0");
        now_ms.fetch_add(2 * 60_000, Ordering::Relaxed);
        assert_eq!(key().await.unwrap(), "k1", "four minutes before expiry");
        now_ms.fetch_add(58 * 60_000, Ordering::Relaxed);
        assert_eq!(key().await.unwrap(), "k1", "renewal fails, but they live");
        now_ms.fetch_add(3 * 60_000, Ordering::Relaxed);
        assert!(key().await.is_err(), "expired and not renewed");
    }

    #[tokio::test]
    async fn a_renewal_without_an_answer_holds_up_one_request_and_goes_on_behind_it() {
        let (now_ms, answers) = (Arc::new(AtomicI64::new(1_000_000)), Arc::new(Semaphore::new(1)));
        let mut provider = provider_that_hangs(0, &now_ms, &answers);
        let key = async |provider: &ChainCredentials| provider.get_credential().await.unwrap().key_id.clone();
        assert_eq!(key(&provider).await, "k0");
        let hanging = answers.acquire().await.unwrap();
        now_ms.fetch_add(56 * 60_000, Ordering::Relaxed);
        provider.patience = Duration::MAX;
        tokio::select! {
            biased;
            who = key(&provider) => panic!("{who} without an answer"),
            who = key(&provider) => assert_eq!(who, "k0", "the second does not wait"),
        }
        provider.patience = Duration::ZERO;
        assert_eq!(key(&provider).await, "k0", "the first has had enough");
        provider.patience = Duration::MAX;
        assert_eq!(key(&provider).await, "k0", "and the next one does not ask");
        drop(hanging);
        now_ms.fetch_add(RETRY_MS, Ordering::Relaxed);
        assert_eq!(key(&provider).await, "k1", "what was asked first has been answered");
        now_ms.fetch_add(61 * 60_000, Ordering::Relaxed);
        assert_eq!(key(&provider).await, "k2");
    }

    #[tokio::test]
    async fn credentials_that_are_about_to_expire_are_not_held_beyond_that() {
        let (now_ms, answers) = (Arc::new(AtomicI64::new(1_000_000)), Arc::new(Semaphore::new(1)));
        let mut provider = provider_that_hangs(0, &now_ms, &answers);
        provider.patience = Duration::ZERO;
        let key = async || provider.get_credential().await.unwrap().key_id.clone();
        assert_eq!(key().await, "k0");
        let hanging = answers.acquire().await.unwrap();
        now_ms.fetch_add(3_600_000 - 1, Ordering::Relaxed);
        assert_eq!(key().await, "k0", "a millisecond is left");
        now_ms.fetch_add(1, Ordering::Relaxed);
        tokio::select! {
            biased;
            who = key() => panic!("{who} has expired"),
            () = std::future::ready(()) => {}
        }
        drop(hanging);
        assert_eq!(key().await, "k1");
    }

    /// What is logged, as text.
    #[derive(Debug, Clone, Default)]
    struct Log(Arc<std::sync::Mutex<Vec<u8>>>);

    impl std::io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_renewal_that_fails_every_twenty_seconds_is_told_once_and_so_is_its_end() {
        let (log, now_ms) = (Log::default(), Arc::new(AtomicI64::new(1_000_000)));
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
        let _logging = tracing::subscriber::set_default(subscriber);
        let provider = provider(9, &now_ms);
        let key = async || provider.get_credential().await.unwrap().key_id.clone();
        assert_eq!(key().await, "k0");
        now_ms.fetch_add(56 * 60_000, Ordering::Relaxed);
        assert_eq!(key().await, "k1");
        now_ms.fetch_add(55 * 60_000, Ordering::Relaxed);
        for _ in 0..9 {
            assert_eq!(key().await, "k1");
            now_ms.fetch_add(RETRY_MS, Ordering::Relaxed);
        }
        assert_eq!(key().await, "k11");
        let told = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        let lines = |words: &str| told.lines().filter(|line| line.contains(words)).count();
        assert_eq!(lines("renewing s3 credentials failed"), 1, "{told}");
        assert_eq!(lines("s3 credentials are renewed again"), 1, "{told}");
        assert!(told.contains("away"), "{told}");
    }
}
