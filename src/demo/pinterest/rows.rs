//! A row's three records as the bytes that Kinesis gets: compact JSON, the original's key order, UTF-8 as it is.

use std::fmt::Write;

use chrono::{DateTime, Datelike, Timelike};

use super::dice::Dice;
use super::emulation::Kind;
use super::population::{Followers, Population, RowFacts, Shape, User};
use super::quoted::quoted;
use super::text;
use super::words::{Category, category_of};

const SALT_TEXT: u64 = 6;
const SALT_IDENTITY: u64 = 7;

/// Rows whose title is the empty text.
const EMPTY_TITLES: [u32; 2] = [5658, 5718];

/// Share of pins that repeat the title and the description of the row before.
const REPEATED_TEXT: f64 = 0.0015;

/// Share of pins whose poster had one unit (thousand) fewer followers when it was pinned.
const FOLLOWERS_DRIFT: f64 = 0.01;

/// How the emulator wrote a DATETIME into JSON: each student invented a form of his own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimestampForm {
    /// `"2020-08-28T03:52:47"`
    Iso,
    /// `"2020-08-28 03:52:47"`
    Space,
    /// `"2020:08:28 03:52:47"`
    Colons,
    /// `"08/28/2020, 03:52:47"`
    American,
    /// `{"$date":1598586767000}`
    DateNumber,
    /// `{"$date":"2020-08-28T03:52:47Z"}`
    DateText,
    /// `null`
    Null,
}

impl Population {
    /// The pin record of a row (`rows()` and above: of the row that the number comes round to).
    pub fn pin(&self, row: u32) -> String {
        self.numbered_pin(row % self.rows())
    }

    /// The record of a table that never ends: from `rows()` on the numbers go on, and the same posters pin other pins
    /// at other times. Without it, more records than rows would repeat themselves, and compress as no stream does.
    pub fn endless(&self, kind: Kind, number: u32) -> String {
        match kind {
            Kind::Pin => self.numbered_pin(number),
            Kind::Geo => self.numbered_geo(number, TimestampForm::Iso),
            Kind::User => self.numbered_user(number, TimestampForm::Iso),
        }
    }

    fn numbered_pin(&self, number: u32) -> String {
        let facts = self.facts(number);
        let category = category_of(number % self.rows());
        let pin = Pin::of(number, facts, &self.users[usize::from(facts.user)], category);
        let mut json = String::with_capacity(900);
        json.push_str("{\"index\":");
        push_display(&mut json, number);
        let texts = [
            ("unique_id", Some(pin.unique_id.as_str())),
            ("title", Some(&pin.title)),
            ("description", Some(&pin.description)),
            ("poster_name", Some(&pin.poster_name)),
            ("follower_count", Some(&pin.follower_count)),
            ("tag_list", Some(&pin.tag_list)),
            ("is_image_or_video", pin.media),
            ("image_src", pin.image_src.as_deref()),
        ];
        texts.into_iter().for_each(|(key, value)| push_field(&mut json, key, value));
        json.push_str(",\"downloaded\":");
        json.push(if pin.downloaded { '1' } else { '0' });
        json.push_str(",\"save_location\":\"Local save in /data/");
        json.push_str(category.name);
        json.push('"');
        push_field(&mut json, "category", Some(category.name));
        json.push('}');
        json
    }

    /// The geo record of a row, its timestamp in this form.
    pub fn geo(&self, row: u32, form: TimestampForm) -> String {
        self.numbered_geo(row % self.rows(), form)
    }

    fn numbered_geo(&self, number: u32, form: TimestampForm) -> String {
        let facts = self.facts(number);
        let user = &self.users[usize::from(facts.user)];
        let mut json = String::with_capacity(160);
        json.push_str("{\"ind\":");
        push_display(&mut json, number);
        json.push_str(",\"timestamp\":");
        push_timestamp(&mut json, facts.posted_s + i64::from(number / self.rows()), form);
        json.push_str(",\"latitude\":");
        push_float(&mut json, user.latitude);
        json.push_str(",\"longitude\":");
        push_float(&mut json, user.longitude);
        push_field(&mut json, "country", Some(user.country));
        json.push('}');
        json
    }

    /// The user record of a row, its timestamp in this form.
    pub fn user(&self, row: u32, form: TimestampForm) -> String {
        self.numbered_user(row % self.rows(), form)
    }

    fn numbered_user(&self, number: u32, form: TimestampForm) -> String {
        let user = &self.users[usize::from(self.facts(number).user)];
        let mut json = String::with_capacity(128);
        json.push_str("{\"ind\":");
        push_display(&mut json, number);
        push_field(&mut json, "first_name", Some(&user.first_name));
        push_field(&mut json, "last_name", Some(&user.last_name));
        json.push_str(",\"age\":");
        push_display(&mut json, user.age);
        json.push_str(",\"date_joined\":");
        push_timestamp(&mut json, user.joined_s, form);
        json.push('}');
        json
    }

    fn facts(&self, number: u32) -> &RowFacts {
        &self.rows[(number % self.rows()) as usize]
    }
}

// === The pin's texts ===

struct Pin {
    unique_id: String,
    title: String,
    description: String,
    poster_name: String,
    follower_count: String,
    tag_list: String,
    media: Option<&'static str>,
    image_src: Option<String>,
    downloaded: bool,
}

impl Pin {
    fn of(number: u32, facts: &RowFacts, user: &User, category: &Category) -> Self {
        let mut identity = Dice::new(SALT_IDENTITY, u64::from(number));
        let repeats = number > category.first_row && identity.chance(REPEATED_TEXT);
        let mut words = Dice::new(SALT_TEXT, u64::from(if repeats { number - 1 } else { number }));
        let mut pin = Self {
            unique_id: unique_id(&mut identity),
            title: text::title(&mut words, category),
            description: text::description(&mut words, category),
            poster_name: user.poster_name.clone(),
            follower_count: follower_count(user.followers, identity.chance(FOLLOWERS_DRIFT)),
            tag_list: text::tags(&mut words, category),
            media: media(facts.shape),
            image_src: Some(image_src(&mut identity, facts.shape)),
            downloaded: true,
        };
        pin.remove(facts.shape);
        if EMPTY_TITLES.contains(&number) {
            pin.title.clear();
        }
        if let Some(quoted) = quoted(number) {
            pin.unique_id = quoted.unique_id.to_owned();
            if let Some(content) = &quoted.content {
                pin.title = content.title.to_owned();
                pin.description = content.description.to_owned();
                pin.tag_list = content.tag_list.to_owned();
                pin.image_src = Some(content.image_src.to_owned());
                pin.follower_count = follower_count(user.followers, false);
            }
        }
        pin
    }

    /// Puts the sentinels in; they come in these combinations only.
    fn remove(&mut self, shape: Shape) {
        const NO_DESCRIPTION: &str = "No description available";
        const NO_TAGS: &str = "N,o, ,T,a,g,s, ,A,v,a,i,l,a,b,l,e";
        match shape {
            Shape::Image | Shape::Video => {}
            Shape::ImageNoDescription | Shape::VideoNoDescription => self.description = NO_DESCRIPTION.to_owned(),
            Shape::ImageNoTags | Shape::VideoNoTags => self.tag_list = NO_TAGS.to_owned(),
            Shape::NullMedia => {
                self.image_src = None;
                self.downloaded = false;
            }
            Shape::Story | Shape::StoryNoImage | Shape::Nothing => {
                self.description = format!("{NO_DESCRIPTION} Story format");
            }
        }
        if matches!(shape, Shape::StoryNoImage | Shape::Nothing) {
            self.image_src = Some("Image src error.".to_owned());
            self.downloaded = false;
        }
        if shape == Shape::Nothing {
            self.title = "No Title Data Available".to_owned();
            self.tag_list = NO_TAGS.to_owned();
        }
    }
}

fn media(shape: Shape) -> Option<&'static str> {
    match shape {
        Shape::Image | Shape::ImageNoDescription | Shape::ImageNoTags => Some("image"),
        Shape::Video | Shape::VideoNoDescription | Shape::VideoNoTags => Some("video"),
        Shape::Story | Shape::StoryNoImage | Shape::Nothing => Some("multi-video(story page format)"),
        Shape::NullMedia => None,
    }
}

fn follower_count(followers: Followers, fewer: bool) -> String {
    match followers {
        Followers::Plain(count) => count.to_string(),
        Followers::Thousands(count) if fewer && count > 100 => format!("{}k", count - 1),
        Followers::Thousands(count) => format!("{count}k"),
        Followers::Millions(count) => format!("{count}M"),
        Followers::Error => "User Info Error".to_owned(),
    }
}

fn unique_id(dice: &mut Dice) -> String {
    let bits = (u128::from(dice.bits()) << 64) | u128::from(dice.bits());
    uuid::Builder::from_random_bytes(bits.to_be_bytes()).into_uuid().to_string()
}

fn image_src(dice: &mut Dice, shape: Shape) -> String {
    let hash = format!("{:016x}{:016x}", dice.bits(), dice.bits());
    let folder = format!("{}/{}/{}/{hash}", &hash[..2], &hash[2..4], &hash[4..6]);
    let extension = ["jpg", "png", "webp", "gif"][dice.weighted(&[0.841, 0.154, 0.004, 0.001])];
    match shape {
        Shape::Image | Shape::ImageNoDescription | Shape::ImageNoTags | Shape::NullMedia => {
            format!("https://i.pinimg.com/originals/{folder}.{extension}")
        }
        Shape::Video
        | Shape::VideoNoDescription
        | Shape::VideoNoTags
        | Shape::Story
        | Shape::StoryNoImage
        | Shape::Nothing => format!("https://i.pinimg.com/videos/thumbnails/originals/{folder}.0000001.jpg"),
    }
}

// === JSON ===

fn push_display(json: &mut String, value: impl std::fmt::Display) {
    write!(json, "{value}").unwrap_or_default();
}

fn push_field(json: &mut String, key: &str, value: Option<&str>) {
    json.push_str(",\"");
    json.push_str(key);
    json.push_str("\":");
    match value {
        Some(text) => push_text(json, text),
        None => json.push_str("null"),
    }
}

/// A JSON string with only what must be escaped escaped.
pub(super) fn push_text(json: &mut String, text: &str) {
    json.push('"');
    for letter in text.chars() {
        match letter {
            '"' => json.push_str("\\\""),
            '\\' => json.push_str("\\\\"),
            '\n' => json.push_str("\\n"),
            control if control < ' ' => write!(json, "\\u{:04x}", control as u32).unwrap_or_default(),
            plain => json.push(plain),
        }
    }
    json.push('"');
}

/// A number as MySQL shows a FLOAT: six significant digits, no zeros at the end (but one after the point).
fn push_float(json: &mut String, value: f64) {
    let magnitude = if value == 0.0 { 0 } else { value.abs().log10().floor() as i32 };
    let decimals = (5 - magnitude).clamp(1, 9) as usize;
    let digits = format!("{value:.decimals$}");
    let shown = digits.trim_end_matches('0');
    json.push_str(shown);
    if shown.ends_with('.') {
        json.push('0');
    }
}

fn push_timestamp(json: &mut String, epoch_s: i64, form: TimestampForm) {
    let time = DateTime::from_timestamp(epoch_s, 0).unwrap_or_default();
    let (year, month, day) = (time.year(), time.month(), time.day());
    let (hour, minute, second) = (time.hour(), time.minute(), time.second());
    let clock = format_args!("{hour:02}:{minute:02}:{second:02}");
    match form {
        TimestampForm::Iso => write!(json, "\"{year}-{month:02}-{day:02}T{clock}\""),
        TimestampForm::Space => write!(json, "\"{year}-{month:02}-{day:02} {clock}\""),
        TimestampForm::Colons => write!(json, "\"{year}:{month:02}:{day:02} {clock}\""),
        TimestampForm::American => write!(json, "\"{month:02}/{day:02}/{year}, {clock}\""),
        TimestampForm::DateNumber => write!(json, "{{\"$date\":{}}}", epoch_s * 1_000),
        TimestampForm::DateText => write!(json, "{{\"$date\":\"{year}-{month:02}-{day:02}T{clock}Z\"}}"),
        TimestampForm::Null => write!(json, "null"),
    }
    .unwrap_or_default();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quantile(sorted: &[usize], share: f64) -> f64 {
        sorted[(sorted.len() as f64 * share) as usize] as f64
    }

    fn within(what: &str, value: f64, expected: f64, tolerance: f64) {
        assert!((value - expected).abs() <= tolerance, "{what}: {value}, expected {expected} ± {tolerance}");
    }

    #[test]
    fn the_quoted_rows_are_the_originals_to_the_byte() {
        let population = Population::new();
        let iso = TimestampForm::Iso;
        let triplet = |row| [population.pin(row), population.geo(row, iso), population.user(row, iso)];
        assert_eq!(
            triplet(7528),
            [
                r#"{"index":7528,"unique_id":"fbe53c66-3442-4773-b19e-d3ec6f54dddf","title":"No Title Data Available","description":"No description available Story format","poster_name":"User Info Error","follower_count":"User Info Error","tag_list":"N,o, ,T,a,g,s, ,A,v,a,i,l,a,b,l,e","is_image_or_video":"multi-video(story page format)","image_src":"Image src error.","downloaded":0,"save_location":"Local save in /data/mens-fashion","category":"mens-fashion"}"#,
                r#"{"ind":7528,"timestamp":"2020-08-28T03:52:47","latitude":-89.9787,"longitude":-173.293,"country":"Albania"}"#,
                r#"{"ind":7528,"first_name":"Abigail","last_name":"Ali","age":20,"date_joined":"2015-10-24T11:23:51"}"#,
            ]
        );
        assert_eq!(
            triplet(2863),
            [
                r#"{"index":2863,"unique_id":"9bf39437-42a6-4f02-99a0-9a0383d8cd70","title":"25 Super Fun Summer Crafts for Kids - Of Life and Lisa","description":"Keep the kids busy this summer with these easy diy crafts and projects. Creative and…","poster_name":"Of Life & Lisa | Lifestyle Blog","follower_count":"124k","tag_list":"Summer Crafts For Kids,Fun Crafts For Kids,Summer Kids,Toddler Crafts,Crafts To Do,Diy For Kids,Summer Snow,Diys For Summer,Craft Ideas For Girls","is_image_or_video":"image","image_src":"https://i.pinimg.com/originals/b3/bc/e2/b3bce2964e8c8975387b39660eed5f16.jpg","downloaded":1,"save_location":"Local save in /data/diy-and-crafts","category":"diy-and-crafts"}"#,
                r#"{"ind":2863,"timestamp":"2020-04-27T13:34:16","latitude":-5.34445,"longitude":-177.924,"country":"Armenia"}"#,
                r#"{"ind":2863,"first_name":"Dylan","last_name":"Holmes","age":32,"date_joined":"2016-10-23T14:06:51"}"#,
            ]
        );
        let coupons = "{\"index\":5730,\"unique_id\":\"1e1f0c8b-9fcf-460b-9154-c775827206eb\",\"title\":\"Island Oasis \
                       Coupon Organizer\",\"description\":\"Description Coupon Organizer in a fun colorful fabric \
                       -island oasis, Great Size for the \\\"basic\\\" couponer - holds up to 500 coupons with ease, \
                       and is made long enough so that you…\u{a0}\",\"poster_name\":\"Consuelo \
                       Aguirre\",\"follower_count\":\"0\",\"tag_list\":\"Grocery Items,Grocery Coupons,Care \
                       Organization,Coupon Organization,Extreme Couponing,Couponing 101,Life Binder,Save My Money,Love \
                       Coupons\",\"is_image_or_video\":\"image\",\"image_src\":\"https://i.pinimg.com/originals/65/bb/\
                       ea/65bbeaf458907bb079317d8303c4fa0e.jpg\",\"downloaded\":1,\"save_location\":\"Local save in \
                       /data/finance\",\"category\":\"finance\"}";
        assert_eq!(
            triplet(5730),
            [
                coupons,
                r#"{"ind":5730,"timestamp":"2021-04-19T17:37:03","latitude":-77.015,"longitude":-101.437,"country":"Colombia"}"#,
                r#"{"ind":5730,"first_name":"Rachel","last_name":"Davis","age":36,"date_joined":"2015-12-08T20:02:43"}"#,
            ]
        );
        assert_eq!(
            triplet(8304),
            [
                r##"{"index":8304,"unique_id":"5b6d0913-25e4-43ab-839d-85d5516f78a4","title":"The #1 Reason You’re Not His Priority Anymore - Matthew Coast","description":"#lovequotes #matchmaker #matchmadeinheaven #loveyourself #respectyourself","poster_name":"Commitment Connection","follower_count":"51k","tag_list":"Wise Quotes,Quotable Quotes,Words Quotes,Wise Words,Quotes To Live By,Great Quotes,Motivational Quotes,Inspirational Quotes,Funny Quotes","is_image_or_video":"image","image_src":"https://i.pinimg.com/originals/c6/64/ee/c664ee71524fb5a6e7b7b49233f93b43.png","downloaded":1,"save_location":"Local save in /data/quotes","category":"quotes"}"##,
                r#"{"ind":8304,"timestamp":"2019-09-13T04:50:29","latitude":-28.8852,"longitude":-164.87,"country":"French Guiana"}"#,
                r#"{"ind":8304,"first_name":"Charles","last_name":"Berry","age":25,"date_joined":"2015-12-28T04:21:39"}"#,
            ]
        );
        assert_eq!(
            triplet(5069),
            [
                r#"{"index":5069,"unique_id":"b75b6f87-deb3-444f-b29e-ce9161b2df49","title":"The Vault: Curated & Refined Wedding Inspiration","description":"Sacramento California Wedding 2 Chic Events & Design Jodi Yorston Photography Wilson Vineyards Barn Miosa Couture Yellow Barn Vineyard Outdoor Candles DIY","poster_name":"Style Me Pretty","follower_count":"6M","tag_list":"60th Anniversary Parties,Anniversary Decorations,Golden Anniversary,25th Wedding Anniversary,Anniversary Pictures,Anniversary Ideas,Birthday Decorations,Event Planning Design,Event Design","is_image_or_video":"image","image_src":"https://i.pinimg.com/originals/7e/45/90/7e45905fefa36347e83333fd6d091140.jpg","downloaded":1,"save_location":"Local save in /data/event-planning","category":"event-planning"}"#,
                r#"{"ind":5069,"timestamp":"2021-03-20T09:32:44","latitude":-63.0063,"longitude":-157.474,"country":"Azerbaijan"}"#,
                r#"{"ind":5069,"first_name":"Amanda","last_name":"Ball","age":25,"date_joined":"2016-01-13T17:36:30"}"#,
            ]
        );
    }

    #[test]
    fn every_record_is_compact_json_with_its_fields_in_order() {
        let population = Population::new();
        let pin_keys = [
            "index",
            "unique_id",
            "title",
            "description",
            "poster_name",
            "follower_count",
            "tag_list",
            "is_image_or_video",
            "image_src",
            "downloaded",
            "save_location",
            "category",
        ];
        let keys = |json: &str| -> Vec<String> {
            let value: serde_json::Value = serde_json::from_str(json).unwrap();
            assert_eq!(value.to_string(), json);
            value.as_object().unwrap().keys().cloned().collect()
        };
        for row in 0..population.rows() {
            assert_eq!(keys(&population.pin(row)), pin_keys);
            let geo = population.geo(row, TimestampForm::Iso);
            assert_eq!(keys(&geo), ["ind", "timestamp", "latitude", "longitude", "country"]);
            let user = population.user(row, TimestampForm::Space);
            assert_eq!(keys(&user), ["ind", "first_name", "last_name", "age", "date_joined"]);
        }
    }

    #[test]
    fn beyond_the_rows_the_same_posters_pin_other_pins() {
        let population = Population::new();
        let json = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        for row in [0, 2863, 7528, 11_153] {
            assert_eq!(population.endless(Kind::Pin, row), population.pin(row));
            assert_eq!(population.endless(Kind::Geo, row), population.geo(row, TimestampForm::Iso));
            let number = row + 3 * population.rows();
            let (first, later) = (json(&population.pin(row)), json(&population.endless(Kind::Pin, number)));
            assert_eq!((&later["index"], &later["poster_name"]), (&number.into(), &first["poster_name"]));
            assert_ne!(later["unique_id"], first["unique_id"]);
            let geo = population.endless(Kind::Geo, number);
            assert_ne!(json(&geo)["timestamp"], json(&population.geo(row, TimestampForm::Iso))["timestamp"]);
            assert_eq!(json(&population.endless(Kind::User, number))["ind"], number);
            assert_eq!(population.pin(number), population.pin(row), "rows come round");
        }
        assert_ne!(
            json(&population.endless(Kind::Pin, 2863 + population.rows()))["description"],
            json(&population.pin(2863))["description"]
        );
    }

    #[test]
    fn sizes_are_those_of_the_original() {
        let population = Population::new();
        let sizes = |record: &dyn Fn(u32) -> String| -> Vec<usize> {
            let mut sizes: Vec<usize> = (0..population.rows()).map(|row| record(row).len()).collect();
            sizes.sort_unstable();
            sizes
        };
        let pins = sizes(&|row| population.pin(row));
        within("pin p10", quantile(&pins, 0.1), 606.0, 25.0);
        within("pin p50", quantile(&pins, 0.5), 725.0, 25.0);
        within("pin p90", quantile(&pins, 0.9), 801.0, 25.0);
        within("pin p99", quantile(&pins, 0.99), 871.0, 40.0);
        let geos = sizes(&|row| population.geo(row, TimestampForm::Iso));
        within("geo p50", quantile(&geos, 0.5), 107.0, 2.0);
        let users = sizes(&|row| population.user(row, TimestampForm::Iso));
        within("user p50", quantile(&users, 0.5), 100.0, 2.0);
    }

    #[test]
    fn texts_have_the_lengths_and_characters_of_the_original() {
        let population = Population::new();
        let pins: Vec<serde_json::Value> =
            (0..population.rows()).map(|row| serde_json::from_str(&population.pin(row)).unwrap()).collect();
        let texts = |key: &str| pins.iter().map(|pin| pin[key].as_str().unwrap()).collect::<Vec<_>>();
        let lengths = |texts: &[&str]| {
            let mut lengths: Vec<usize> = texts.iter().map(|text| text.chars().count()).collect();
            lengths.sort_unstable();
            lengths
        };
        let share = |texts: &[&str], is: &dyn Fn(&str) -> bool| {
            texts.iter().filter(|text| is(text)).count() as f64 * 100.0 / texts.len() as f64
        };
        let titles = texts("title");
        for (at, expected, tolerance) in [(0.1, 22.0, 4.0), (0.5, 50.0, 4.0), (0.9, 82.0, 6.0), (0.99, 143.0, 10.0)] {
            within(&format!("title p{at}"), quantile(&lengths(&titles), at), expected, tolerance);
        }
        within("title commas", share(&titles, &|text| text.contains(',')), 6.5, 1.5);
        within("title not ASCII", share(&titles, &|text| !text.is_ascii()), 10.5, 2.0);
        within("title bars", share(&titles, &|text| text.contains(" | ")), 7.0, 1.5);
        within("title astral", share(&titles, &|text| text.chars().any(|letter| letter > '\u{ffff}')), 1.0, 0.5);
        let descriptions = texts("description");
        within("cut", share(&descriptions, &|text| text.ends_with("…\u{a0}")), 36.0, 1.5);
        within("cut at 179", share(&descriptions, &|text| text.chars().count() == 179), 29.0, 3.5);
        within("description commas", share(&descriptions, &|text| text.contains(',')), 43.0, 3.0);
        within("hashtags", share(&descriptions, &|text| text.contains('#')), 7.8, 1.5);
        within("description p50", quantile(&lengths(&descriptions), 0.5), 148.0, 8.0);
        assert!(*lengths(&descriptions).last().unwrap() <= 180);
        let tags = texts("tag_list");
        for (at, expected) in [(0.1, 121.0), (0.5, 151.0), (0.9, 189.0)] {
            within(&format!("tags p{at}"), quantile(&lengths(&tags), at), expected, 8.0);
        }
        let posters = texts("poster_name");
        within("poster p50", quantile(&lengths(&posters), 0.5), 16.0, 3.0);
        within("poster p90", quantile(&lengths(&posters), 0.9), 51.0, 8.0);
        within("poster bars", share(&posters, &|text| text.contains(" | ")), 15.6, 4.0);
    }

    #[test]
    fn timestamps_have_the_forms_seen_on_the_wire() {
        let shown = |form| {
            let mut json = String::new();
            push_timestamp(&mut json, 1_598_586_767, form);
            json
        };
        assert_eq!(shown(TimestampForm::Colons), "\"2020:08:28 03:52:47\"");
        assert_eq!(shown(TimestampForm::American), "\"08/28/2020, 03:52:47\"");
        assert_eq!(shown(TimestampForm::DateNumber), "{\"$date\":1598586767000}");
        assert_eq!(shown(TimestampForm::DateText), "{\"$date\":\"2020-08-28T03:52:47Z\"}");
        assert_eq!(shown(TimestampForm::Null), "null");
    }

    #[test]
    fn numbers_have_six_significant_digits() {
        let shown = |value| {
            let mut json = String::new();
            push_float(&mut json, value);
            json
        };
        assert_eq!(shown(-89.97874), "-89.9787");
        assert_eq!(shown(179.9349), "179.935");
        assert_eq!(shown(-77.0), "-77.0");
        assert_eq!(shown(0.052_345_678), "0.0523457");
    }
}
