//! Five rows of the original that are known to the byte, at their places in the synthetic population. The first one,
//! which is also the first that seed 100 posts, has every sentinel at once.

use super::population::{Followers, User};

/// Epoch seconds of a UTC date and time.
pub(super) const fn seconds(year: i64, month: i64, day: i64, (hour, minute, second): (i64, i64, i64)) -> i64 {
    let from_march = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * from_march.0 + from_march.0 / 4 - from_march.0 / 100
        + from_march.0 / 400
        + (153 * from_march.1 + 2) / 5
        + day
        - 719_469;
    days * 86_400 + hour * 3_600 + minute * 60 + second
}

/// A known row.
pub(super) struct Quoted {
    pub(super) row: u32,
    pub(super) unique_id: &'static str,
    pub(super) posted_s: i64,
    pub(super) poster: Poster,
    /// `None`: the row of the poster "User Info Error", all of whose pins are without content.
    pub(super) content: Option<Content>,
}

/// What only a row with content has.
pub(super) struct Content {
    pub(super) title: &'static str,
    pub(super) description: &'static str,
    pub(super) tag_list: &'static str,
    pub(super) image_src: &'static str,
}

/// Its poster.
pub(super) struct Poster {
    name: &'static str,
    followers: Followers,
    person: (&'static str, &'static str, u8),
    joined_s: i64,
    place: (f64, f64, &'static str),
}

impl Poster {
    pub(super) fn user(&self) -> User {
        User {
            poster_name: self.name.to_owned(),
            followers: self.followers,
            first_name: self.person.0.to_owned(),
            last_name: self.person.1.to_owned(),
            age: self.person.2,
            joined_s: self.joined_s,
            latitude: self.place.0,
            longitude: self.place.1,
            country: self.place.2,
        }
    }
}

/// The known rows; the first is the one without content.
pub(super) const QUOTED: [Quoted; 5] = [
    Quoted {
        row: 7528,
        unique_id: "fbe53c66-3442-4773-b19e-d3ec6f54dddf",
        posted_s: seconds(2020, 8, 28, (3, 52, 47)),
        poster: Poster {
            name: "User Info Error",
            followers: Followers::Error,
            person: ("Abigail", "Ali", 20),
            joined_s: seconds(2015, 10, 24, (11, 23, 51)),
            place: (-89.9787, -173.293, "Albania"),
        },
        content: None,
    },
    Quoted {
        row: 2863,
        unique_id: "9bf39437-42a6-4f02-99a0-9a0383d8cd70",
        posted_s: seconds(2020, 4, 27, (13, 34, 16)),
        poster: Poster {
            name: "Of Life & Lisa | Lifestyle Blog",
            followers: Followers::Thousands(124),
            person: ("Dylan", "Holmes", 32),
            joined_s: seconds(2016, 10, 23, (14, 6, 51)),
            place: (-5.34445, -177.924, "Armenia"),
        },
        content: Some(Content {
            title: "25 Super Fun Summer Crafts for Kids - Of Life and Lisa",
            description: "Keep the kids busy this summer with these easy diy crafts and projects. Creative and…",
            tag_list: "Summer Crafts For Kids,Fun Crafts For Kids,Summer Kids,Toddler Crafts,Crafts To Do,Diy For \
                       Kids,Summer Snow,Diys For Summer,Craft Ideas For Girls",
            image_src: "https://i.pinimg.com/originals/b3/bc/e2/b3bce2964e8c8975387b39660eed5f16.jpg",
        }),
    },
    Quoted {
        row: 5730,
        unique_id: "1e1f0c8b-9fcf-460b-9154-c775827206eb",
        posted_s: seconds(2021, 4, 19, (17, 37, 3)),
        poster: Poster {
            name: "Consuelo Aguirre",
            followers: Followers::Plain(0),
            person: ("Rachel", "Davis", 36),
            joined_s: seconds(2015, 12, 8, (20, 2, 43)),
            place: (-77.015, -101.437, "Colombia"),
        },
        content: Some(Content {
            title: "Island Oasis Coupon Organizer",
            description: "Description Coupon Organizer in a fun colorful fabric -island oasis, Great Size for the \
                          \"basic\" couponer - holds up to 500 coupons with ease, and is made long enough so that \
                          you…\u{a0}",
            tag_list: "Grocery Items,Grocery Coupons,Care Organization,Coupon Organization,Extreme Couponing,Couponing \
                       101,Life Binder,Save My Money,Love Coupons",
            image_src: "https://i.pinimg.com/originals/65/bb/ea/65bbeaf458907bb079317d8303c4fa0e.jpg",
        }),
    },
    Quoted {
        row: 8304,
        unique_id: "5b6d0913-25e4-43ab-839d-85d5516f78a4",
        posted_s: seconds(2019, 9, 13, (4, 50, 29)),
        poster: Poster {
            name: "Commitment Connection",
            followers: Followers::Thousands(51),
            person: ("Charles", "Berry", 25),
            joined_s: seconds(2015, 12, 28, (4, 21, 39)),
            place: (-28.8852, -164.87, "French Guiana"),
        },
        content: Some(Content {
            title: "The #1 Reason You’re Not His Priority Anymore - Matthew Coast",
            description: "#lovequotes #matchmaker #matchmadeinheaven #loveyourself #respectyourself",
            tag_list: "Wise Quotes,Quotable Quotes,Words Quotes,Wise Words,Quotes To Live By,Great \
                       Quotes,Motivational Quotes,Inspirational Quotes,Funny Quotes",
            image_src: "https://i.pinimg.com/originals/c6/64/ee/c664ee71524fb5a6e7b7b49233f93b43.png",
        }),
    },
    Quoted {
        row: 5069,
        unique_id: "b75b6f87-deb3-444f-b29e-ce9161b2df49",
        posted_s: seconds(2021, 3, 20, (9, 32, 44)),
        poster: Poster {
            name: "Style Me Pretty",
            followers: Followers::Millions(6),
            person: ("Amanda", "Ball", 25),
            joined_s: seconds(2016, 1, 13, (17, 36, 30)),
            place: (-63.0063, -157.474, "Azerbaijan"),
        },
        content: Some(Content {
            title: "The Vault: Curated & Refined Wedding Inspiration",
            description: "Sacramento California Wedding 2 Chic Events & Design Jodi Yorston Photography Wilson \
                          Vineyards Barn Miosa Couture Yellow Barn Vineyard Outdoor Candles DIY",
            tag_list: "60th Anniversary Parties,Anniversary Decorations,Golden Anniversary,25th Wedding \
                       Anniversary,Anniversary Pictures,Anniversary Ideas,Birthday Decorations,Event Planning \
                       Design,Event Design",
            image_src: "https://i.pinimg.com/originals/7e/45/90/7e45905fefa36347e83333fd6d091140.jpg",
        }),
    },
];

/// The known row with this number.
pub(super) fn quoted(row: u32) -> Option<&'static Quoted> {
    QUOTED.iter().find(|quoted| quoted.row == row)
}
