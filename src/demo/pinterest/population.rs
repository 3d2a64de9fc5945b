//! The 11,154 rows behind the emulation: who posted what, when, and which rows lack what.
//!
//! A poster, a user and a place are one and the same thing here, as in the original, and a poster with n posts has
//! for every attribute the minimum of n draws. That is why the popular ones are called Aaron, live in Albania and
//! are 20 years old: analyses over the emulation find what analyses over the original find.

use std::collections::HashSet;

use super::countries::COUNTRIES;
use super::dice::{Dice, interpolate};
use super::names::NameList;
use super::quoted::{QUOTED, quoted, seconds};
use super::text::poster_name;
use super::words::{CATEGORIES, ROWS};

/// Of some hundred, the one whose few great posters are most like the original's.
const SALT_USER: u64 = 233;
const SALT_SHAPES: u64 = 2;
const SALT_OWNERS: u64 = 3;
const SALT_FOLLOWERS: u64 = 4;
const SALT_TIMES: u64 = 5;

/// Posts per user and how many users have as many, beside the ones in [`QUOTED`]. With those: 5,307 users.
#[rustfmt::skip]
const POSTS: [(u16, u16); 51] = [(244, 1), (140, 1), (88, 1), (86, 2), (81, 1), (68, 1), (60, 1), (54, 1), (52, 1), (49, 1),
    (46, 1), (44, 1), (42, 1), (40, 1), (38, 1), (37, 1), (35, 1), (34, 1), (33, 1), (32, 1), (31, 1), (30, 1), (29, 1),
    (28, 1), (27, 2), (26, 1), (25, 2), (24, 2), (23, 2), (22, 3), (21, 2), (20, 3), (19, 4), (18, 3), (17, 3), (16, 5),
    (15, 6), (14, 7), (13, 9), (12, 11), (11, 13), (10, 17), (9, 22), (8, 29), (7, 37), (6, 73), (5, 88), (4, 156),
    (3, 272), (2, 640), (1, 3865)];

/// Rows of the poster "User Info Error".
const ERROR_POSTS: u16 = 88;

const JOINED_FROM_S: i64 = seconds(2015, 10, 20, (0, 0, 0));
const JOINED_TO_S: i64 = seconds(2017, 10, 20, (10, 44, 26));
const POSTED_FROM_S: i64 = seconds(2017, 10, 19, (15, 13, 42));
const POSTED_TO_S: i64 = seconds(2022, 10, 19, (17, 54, 26));

/// Followers by share of posts, up to the first million.
#[rustfmt::skip]
const FOLLOWERS: [(f64, f64); 8] = [(0.0, 0.0), (0.05, 31.0), (0.10, 212.0), (0.167, 940.0), (0.25, 4_000.0),
    (0.5, 30_000.0), (0.75, 194_000.0), (0.928, 985_000.0)];

/// Millions by share of posts: only these occur.
const MILLIONS: [(f64, u8); 8] =
    [(0.928, 1), (0.941, 2), (0.972, 3), (0.976, 4), (0.980, 5), (0.995, 6), (0.998, 8), (0.9993, 15)];

/// Rows whose shape is known.
const KNOWN_SHAPES: [(u32, Shape); 13] = [
    (7528, Shape::Nothing),
    (2863, Shape::Image),
    (5730, Shape::Image),
    (8304, Shape::Image),
    (5069, Shape::Image),
    (5658, Shape::StoryNoImage),
    (5718, Shape::StoryNoImage),
    (9426, Shape::StoryNoImage),
    (10509, Shape::Story),
    (9672, Shape::Video),
    (1313, Shape::VideoNoTags),
    (480, Shape::ImageNoDescription),
    (360, Shape::NullMedia),
];

/// The number of followers in the forms that the records have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Followers {
    Plain(u16),
    Thousands(u16),
    Millions(u8),
    Error,
}

/// Which media and which sentinels a pin has; only these combinations occur.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Shape {
    Image,
    ImageNoDescription,
    ImageNoTags,
    NullMedia,
    Video,
    VideoNoDescription,
    VideoNoTags,
    Story,
    StoryNoImage,
    /// A story with every sentinel at once.
    Nothing,
}

impl Shape {
    fn is_story(self) -> bool {
        matches!(self, Self::Story | Self::StoryNoImage | Self::Nothing)
    }

    fn is_video(self) -> bool {
        matches!(self, Self::Video | Self::VideoNoDescription | Self::VideoNoTags)
    }
}

/// A poster, as a user and as a place.
#[derive(Debug, Clone)]
pub(super) struct User {
    pub(super) poster_name: String,
    pub(super) followers: Followers,
    pub(super) first_name: String,
    pub(super) last_name: String,
    pub(super) age: u8,
    pub(super) joined_s: i64,
    pub(super) latitude: f64,
    pub(super) longitude: f64,
    pub(super) country: &'static str,
}

/// What is decided of a row beforehand; its texts are made when it is asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct RowFacts {
    pub(super) user: u16,
    pub(super) shape: Shape,
    pub(super) posted_s: i64,
}

/// All rows: 0..11154. The same for every seed, as the course's database is.
#[derive(Debug)]
pub struct Population {
    pub(super) users: Vec<User>,
    pub(super) rows: Vec<RowFacts>,
}

impl Default for Population {
    fn default() -> Self {
        Self::new()
    }
}

impl Population {
    /// Builds it; takes some milliseconds.
    pub fn new() -> Self {
        let posts = posts_per_user();
        let mut users = users(&posts);
        spread_followers(&mut users, &posts);
        let shapes = shapes();
        let owners = owners(&shapes, &posts);
        let rows = posting_times(&users, &owners)
            .into_iter()
            .zip(owners)
            .zip(shapes)
            .map(|((posted_s, user), shape)| RowFacts { user, shape, posted_s })
            .collect();
        Self { users, rows }
    }

    /// Rows there are; they are numbered from 0.
    pub fn rows(&self) -> u32 {
        ROWS
    }
}

/// First the posters of [`QUOTED`], then by falling number of posts.
fn posts_per_user() -> Vec<u16> {
    let mut posts = vec![ERROR_POSTS];
    posts.resize(QUOTED.len(), 1);
    posts.extend(POSTS.iter().flat_map(|(posts, users)| std::iter::repeat_n(*posts, usize::from(*users))));
    posts
}

fn users(posts: &[u16]) -> Vec<User> {
    let (first, last) = (NameList::first(), NameList::last());
    let mut users: Vec<User> = QUOTED.iter().map(|quoted| quoted.poster.user()).collect();
    let mut taken: HashSet<String> = users.iter().map(|user| user.poster_name.clone()).collect();
    for (index, posts) in posts.iter().enumerate().skip(QUOTED.len()) {
        let mut dice = Dice::new(SALT_USER, index as u64);
        let category = &CATEGORIES[dice.below(CATEGORIES.len() as u32) as usize];
        let mut name = poster_name(&mut dice, &first, &last, category);
        while taken.contains(&name) {
            name = poster_name(&mut dice, &first, &last, category);
        }
        taken.insert(name.clone());
        users.push(user(&mut dice, name, usize::from(*posts), (&first, &last)));
    }
    if let Some(user) = users.last_mut() {
        user.poster_name = ["Handmade Gifts And Party Decorations For Every Budget, Every Day"; 4].join(" | ");
    }
    users
}

/// Every attribute is the least of as many draws as the user has posts.
fn user(dice: &mut Dice, poster_name: String, posts: usize, (first, last): (&NameList, &NameList)) -> User {
    let least = |dice: &mut Dice| (0..posts).map(|_| dice.unit()).fold(1.0, f64::min);
    let least_name = |dice: &mut Dice, names: &NameList| {
        let drawn: Vec<String> = (0..posts).map(|_| names.draw(dice).to_owned()).collect();
        drawn.into_iter().min().unwrap_or_default()
    };
    let country =
        (0..posts).map(|_| dice.below(COUNTRIES.len() as u32 + 2)).map(country_index).min().unwrap_or_default();
    User {
        poster_name,
        followers: Followers::Plain(0),
        first_name: least_name(dice, first),
        last_name: least_name(dice, last),
        age: 20 + (least(dice) * 41.0) as u8,
        joined_s: JOINED_FROM_S + (least(dice) * (JOINED_TO_S - JOINED_FROM_S) as f64) as i64,
        latitude: -90.0 + least(dice) * 180.0,
        longitude: -180.0 + least(dice) * 360.0,
        country: COUNTRIES[country],
    }
}

/// Two countries are in the original's list twice.
fn country_index(draw: u32) -> usize {
    let twice = |name| COUNTRIES.binary_search(&name).unwrap_or_default();
    match (draw as usize).checked_sub(COUNTRIES.len()) {
        None => draw as usize,
        Some(0) => twice("Congo"),
        Some(_) => twice("Korea"),
    }
}

/// Gives the followers such that the *posts* have the original's distribution, the popular posters rather more.
fn spread_followers(users: &mut [User], posts: &[u16]) {
    let mut dice = Dice::new(SALT_FOLLOWERS, 0);
    let mut ranked: Vec<(f64, usize)> = (QUOTED.len()..users.len())
        .map(|index| (dice.unit().powf(1.0 / f64::from(posts[index]).sqrt()), index))
        .collect();
    ranked.sort_by(|a, b| a.0.total_cmp(&b.0));
    let total: f64 = ranked.iter().map(|(_, index)| f64::from(posts[*index])).sum();
    let mut before = 0.0;
    for (_, index) in ranked {
        let posts = f64::from(posts[index]);
        users[index].followers = followers_at((before + posts / 2.0) / total);
        before += posts;
    }
}

fn followers_at(share: f64) -> Followers {
    let millions = MILLIONS.iter().rev().find(|(from, _)| share >= *from);
    match (millions, interpolate(&FOLLOWERS, share)) {
        (Some((_, millions)), _) => Followers::Millions(*millions),
        (None, count) if count <= 940.0 => Followers::Plain(count as u16),
        (None, count) => Followers::Thousands((count / 1_000.0).clamp(1.0, 985.0) as u16),
    }
}

fn shapes() -> Vec<Shape> {
    let mut dice = Dice::new(SALT_SHAPES, 0);
    let mut shapes = vec![Shape::Image; ROWS as usize];
    KNOWN_SHAPES.iter().for_each(|(row, shape)| shapes[*row as usize] = *shape);
    let (mut stories, mut videos, mut images) = (Vec::new(), Vec::new(), Vec::new());
    for (index, category) in CATEGORIES.iter().enumerate() {
        let end = CATEGORIES.get(index + 1).map_or(ROWS, |next| next.first_row);
        let size = f64::from(end - category.first_row);
        let (known, mut open): (Vec<u32>, Vec<u32>) =
            (category.first_row..end).partition(|row| KNOWN_SHAPES.iter().any(|(known, _)| known == row));
        dice.shuffle(&mut open);
        let known_as = |is: fn(Shape) -> bool| known.iter().filter(|row| is(shapes[**row as usize])).count();
        let story_count = ((category.stories * size).round() as usize).saturating_sub(known_as(Shape::is_story));
        let video_count = ((category.videos * size).round() as usize).saturating_sub(known_as(Shape::is_video));
        let mut rest = open.split_off(story_count);
        images.extend(rest.split_off(video_count));
        stories.extend(open);
        videos.extend(rest);
    }
    let mut assign = |mut rows: Vec<u32>, counts: &[(Shape, usize)], rest: Shape| {
        dice.shuffle(&mut rows);
        let some = counts.iter().flat_map(|(shape, count)| std::iter::repeat_n(*shape, *count));
        let all = some.chain(std::iter::repeat(rest));
        rows.into_iter().zip(all).for_each(|(row, shape)| shapes[row as usize] = shape);
    };
    let nothing = usize::from(ERROR_POSTS) - 1;
    assign(stories, &[(Shape::Nothing, nothing), (Shape::StoryNoImage, 154)], Shape::Story);
    assign(videos, &[(Shape::VideoNoDescription, 14), (Shape::VideoNoTags, 6)], Shape::Video);
    let without = [(Shape::ImageNoDescription, 163), (Shape::ImageNoTags, 56), (Shape::NullMedia, 6)];
    assign(images, &without, Shape::Image);
    shapes
}

/// The user of every row.
fn owners(shapes: &[Shape], posts: &[u16]) -> Vec<u16> {
    let known = |row: u32| QUOTED.iter().position(|quoted| quoted.row == row);
    let of_shape = |row: u32| if shapes[row as usize] == Shape::Nothing { Some(0) } else { known(row) };
    let mut owners: Vec<u16> = (0..ROWS).map(|row| of_shape(row).unwrap_or_default() as u16).collect();
    let mut open: Vec<u32> = (0..ROWS).filter(|row| of_shape(*row).is_none()).collect();
    Dice::new(SALT_OWNERS, 0).shuffle(&mut open);
    let users = posts.iter().enumerate().skip(QUOTED.len());
    let each = users.flat_map(|(user, posts)| std::iter::repeat_n(user as u16, usize::from(*posts)));
    open.into_iter().zip(each).for_each(|(row, user)| owners[row as usize] = user);
    owners
}

/// All different, and never before the poster joined.
fn posting_times(users: &[User], owners: &[u16]) -> Vec<i64> {
    let mut dice = Dice::new(SALT_TIMES, 0);
    let mut taken: HashSet<i64> = QUOTED.iter().map(|quoted| quoted.posted_s).collect();
    let time = |(row, user): (u32, &u16)| {
        if let Some(quoted) = quoted(row) {
            return quoted.posted_s;
        }
        let from = users[usize::from(*user)].joined_s.max(POSTED_FROM_S);
        loop {
            let posted_s = from + i64::from(dice.below((POSTED_TO_S - from + 1) as u32));
            if taken.insert(posted_s) {
                return posted_s;
            }
        }
    };
    (0..ROWS).zip(owners).map(time).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn within(what: &str, value: f64, expected: f64, tolerance: f64) {
        assert!((value - expected).abs() <= tolerance, "{what}: {value}, expected {expected} ± {tolerance}");
    }

    fn percent(count: usize) -> f64 {
        count as f64 * 100.0 / f64::from(ROWS)
    }

    #[test]
    fn shapes_have_the_rates_of_the_original() {
        let population = Population::new();
        let mut counts: BTreeMap<Shape, usize> = BTreeMap::new();
        population.rows.iter().for_each(|row| *counts.entry(row.shape).or_default() += 1);
        assert_eq!(counts[&Shape::Nothing], 88);
        assert_eq!(counts[&Shape::NullMedia], 7);
        let total = |shapes: &[Shape]| shapes.iter().map(|shape| counts[shape]).sum::<usize>();
        let stories = total(&[Shape::Story, Shape::StoryNoImage, Shape::Nothing]);
        within("stories", percent(stories), 6.8, 0.2);
        within("videos", percent(total(&[Shape::Video, Shape::VideoNoDescription, Shape::VideoNoTags])), 2.8, 0.2);
        within("no image", percent(total(&[Shape::StoryNoImage, Shape::Nothing])), 2.2, 0.1);
        within("no description", percent(total(&[Shape::ImageNoDescription, Shape::VideoNoDescription])), 1.6, 0.1);
        within("no tags", percent(total(&[Shape::ImageNoTags, Shape::VideoNoTags, Shape::Nothing])), 1.35, 0.05);
        let crafts = &population.rows[2637..3467];
        within("crafts stories", crafts.iter().filter(|row| row.shape.is_story()).count() as f64, 138.6, 1.0);
        within("crafts videos", crafts.iter().filter(|row| row.shape.is_video()).count() as f64, 124.5, 1.0);
    }

    #[test]
    fn posts_per_user_have_the_heavy_tail_of_the_original() {
        let population = Population::new();
        assert_eq!(population.users.len(), 5_307);
        let mut posts = vec![0usize; population.users.len()];
        population.rows.iter().for_each(|row| posts[usize::from(row.user)] += 1);
        posts.sort_unstable_by(|a, b| b.cmp(a));
        assert_eq!(posts[..4], [244, 140, 88, 88]);
        assert_eq!(posts.iter().filter(|posts| **posts == 1).count(), 3_869);
        within("top 1 %", percent(posts[..53].iter().sum()), 19.0, 1.0);
        within("top 10 %", percent(posts[..531].iter().sum()), 47.0, 1.0);
    }

    #[test]
    fn attributes_follow_the_minimum_law() {
        let population = Population::new();
        let posts = posts_per_user();
        let mean_latitude = |of: u16| {
            let chosen = population.users.iter().zip(&posts).filter(|(_, posts)| **posts == of).map(|(user, _)| user);
            let latitudes: Vec<f64> = chosen.map(|user| user.latitude).collect();
            latitudes.iter().sum::<f64>() / latitudes.len() as f64
        };
        within("latitude of n = 1", mean_latitude(1), 0.0, 4.0);
        within("latitude of n = 2", mean_latitude(2), -30.0, 5.0);
        within("latitude of n = 3", mean_latitude(3), -45.0, 6.0);
        let of_rows = |matches: fn(&User) -> bool| {
            population.rows.iter().filter(|row| matches(&population.users[usize::from(row.user)])).count() as f64
        };
        within("rows of age 20", of_rows(|user| user.age == 20), 2126.0, 350.0);
        within("rows of Aaron", of_rows(|user| user.first_name == "Aaron"), 682.0, 350.0);
        within("rows of Albania", of_rows(|user| user.country == "Albania"), 563.0, 300.0);
        let countries: HashSet<&str> = population.users.iter().map(|user| user.country).collect();
        assert_eq!(countries.len(), COUNTRIES.len());
        let distinct =
            |name: fn(&User) -> String| population.users.iter().map(name).collect::<HashSet<_>>().len() as f64;
        within("first names", distinct(|user| user.first_name.clone()), 595.0, 15.0);
        within("last names", distinct(|user| user.last_name.clone()), 927.0, 50.0);
        within("posters", distinct(|user| user.poster_name.clone()), 5_307.0, 0.0);
        let full = distinct(|user| format!("{} {}", user.first_name, user.last_name));
        within("full names", full, 5_081.0, 120.0);
    }

    #[test]
    fn followers_have_the_forms_of_the_original() {
        let population = Population::new();
        let followers = |row: &RowFacts| population.users[usize::from(row.user)].followers;
        let share = |is: fn(&Followers) -> bool| percent(population.rows.iter().map(followers).filter(is).count());
        within("thousands", share(|form| matches!(form, Followers::Thousands(_))), 75.3, 1.5);
        within("plain", share(|form| matches!(form, Followers::Plain(_))), 16.7, 1.5);
        within("millions", share(|form| matches!(form, Followers::Millions(_))), 7.2, 1.5);
        within("errors", share(|form| matches!(form, Followers::Error)), 0.8, 0.1);
    }

    #[test]
    fn nobody_posts_before_joining_or_twice_at_once() {
        let population = Population::new();
        let times: HashSet<i64> = population.rows.iter().map(|row| row.posted_s).collect();
        assert_eq!(times.len(), population.rows.len());
        for row in &population.rows {
            assert!(row.posted_s >= population.users[usize::from(row.user)].joined_s);
            assert!((POSTED_FROM_S..=POSTED_TO_S).contains(&row.posted_s));
        }
    }
}
