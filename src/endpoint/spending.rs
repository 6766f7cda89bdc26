//! Dollars for calls, and the limit that none may pass: before a call is sent, all that is spent and the most that it and those
//! under way can cost must be within it.

use crate::error::{Error, Result};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Calls, tokens and dollars so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub struct Spent {
    /// Calls that were answered.
    pub calls: usize,
    /// Answers that were there already.
    pub kept: usize,
    /// Calls whose answer was lost on its way; they may have been billed.
    pub lost: usize,
    /// Tokens of requests, as billed.
    pub input_tokens: usize,
    /// Tokens of answers, as billed.
    pub output_tokens: usize,
    /// Dollars for the calls that were answered; none where the price is not known.
    pub usd: Option<f64>,
    /// Dollars that lost answers, and answers that came without a count of tokens, can have cost at most.
    pub usd_uncertain: f64,
}

#[derive(Default)]
struct Book {
    spent: Spent,
    /// Calls under way, and dollars that they can cost at most.
    open: usize,
    under_way: f64,
}

/// The book of one endpoint.
#[derive(Default)]
pub(super) struct Spending {
    limit: Option<f64>,
    book: Mutex<Book>,
    settled: Condvar,
}

/// End of a call.
pub(super) enum CallOutcome {
    /// It was answered and billed so: tokens in, tokens out, dollars.
    Answered(Option<usize>, Option<usize>, Option<f64>),
    /// Its answer was lost.
    Lost,
    /// The server refused it, or was not reached.
    Unbilled,
}

impl Spending {
    /// An empty book; `priced` says whether dollars can be counted.
    pub fn new(limit: Option<f64>, priced: bool) -> Self {
        let spent = Spent { usd: priced.then_some(0.0), ..Spent::default() };
        Self { limit, book: Mutex::new(Book { spent, ..Book::default() }), settled: Condvar::new() }
    }

    fn open(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Allows a call of at most `most` dollars. Where calls under way may leave room or not, it waits for them.
    ///
    /// # Errors
    /// A call that could pass the limit.
    pub fn allow(&self, most: f64) -> Result<()> {
        let mut book = self.open();
        if let Some(limit) = self.limit {
            loop {
                let spent = book.spent.usd.unwrap_or(0.0) + book.spent.usd_uncertain;
                if spent + most > limit {
                    return Err(Error::Stopped(format!(
                        "${spent:.6} spent, and the next call can cost ${most:.6}: more than --max-cost {limit}; all answers \
                         are kept, and --resume with a higher limit goes on"
                    )));
                }
                if book.open == 0 || spent + book.under_way + most <= limit {
                    break;
                }
                book = self.settled.wait(book).unwrap_or_else(PoisonError::into_inner);
            }
        }
        book.open += 1;
        book.under_way += most;
        Ok(())
    }

    /// Closes a call that was allowed.
    pub fn settle(&self, most: f64, outcome: &CallOutcome) {
        let mut book = self.open();
        book.open = book.open.saturating_sub(1);
        book.under_way -= most;
        match outcome {
            CallOutcome::Answered(input, output, usd) => {
                book.spent.calls += 1;
                book.spent.input_tokens += input.unwrap_or(0);
                book.spent.output_tokens += output.unwrap_or(0);
                match usd {
                    Some(usd) => book.spent.usd = book.spent.usd.map(|all| all + usd),
                    None => book.spent.usd_uncertain += most,
                }
            }
            CallOutcome::Lost => {
                book.spent.lost += 1;
                book.spent.usd_uncertain += most;
            }
            CallOutcome::Unbilled => {}
        }
        self.settled.notify_all();
    }

    /// Notes an answer that was there already.
    pub fn kept(&self) {
        self.open().spent.kept += 1;
    }

    /// All of it so far.
    pub fn spent(&self) -> Spent {
        self.open().spent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_call_can_pass_the_limit() {
        let book = Spending::new(Some(1.0), true);
        book.allow(0.4).unwrap();
        book.allow(0.4).unwrap();
        // A third waits for the others, and then fits.
        std::thread::scope(|scope| {
            let third = scope.spawn(|| book.allow(0.4));
            book.settle(0.4, &CallOutcome::Answered(Some(3), Some(1), Some(0.1)));
            third.join().unwrap().unwrap();
        });
        book.settle(0.4, &CallOutcome::Lost);
        book.settle(0.4, &CallOutcome::Unbilled);
        let said = book.allow(0.6).unwrap_err().to_string();
        assert!(said.contains("$0.500000 spent") && said.contains("--max-cost 1"), "{said}");
        book.allow(0.5).unwrap();
        let spent = book.spent();
        assert_eq!((spent.calls, spent.lost, spent.usd, spent.usd_uncertain), (1, 1, Some(0.1), 0.4));
        assert_eq!((spent.input_tokens, spent.output_tokens), (3, 1));
        let unpriced = Spending::new(None, false);
        unpriced.allow(0.0).unwrap();
        unpriced.settle(0.0, &CallOutcome::Answered(Some(3), Some(1), None));
        assert_eq!(unpriced.spent().usd, None);
    }
}
