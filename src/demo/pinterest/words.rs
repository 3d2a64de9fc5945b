//! What the synthetic pins talk about. Lower-case phrases without punctuation: [`super::text`] decides on case, commas,
//! quotes and length, so that those have the frequencies of the original.

/// One of the 13 categories: where its rows are, what media it has, and its words.
pub(super) struct Category {
    /// As in the records.
    pub(super) name: &'static str,
    /// Its first row; it ends where the next one begins.
    pub(super) first_row: u32,
    /// Share of `multi-video(story page format)`.
    pub(super) stories: f64,
    /// Share of `video`.
    pub(super) videos: f64,
    /// What its titles, descriptions and tags are made of.
    pub(super) words: &'static [&'static str],
}

const fn category(
    name: &'static str,
    first_row: u32,
    stories: f64,
    videos: f64,
    words: &'static [&'static str],
) -> Category {
    Category { name, first_row, stories, videos, words }
}

/// Rows are stored by category, in alphabetical order.
#[rustfmt::skip]
pub(super) const CATEGORIES: [Category; 13] = [
    category("art", 0, 0.044, 0.037, &["watercolor", "acrylic pour", "canvas", "sketchbook", "portrait", "abstract",
        "oil painting", "line art", "palette", "still life", "pastel", "ink drawing", "mural", "art prints", "shading",
        "texture", "landscape", "gouache", "pencil study", "collage", "street art", "character design"]),
    category("beauty", 894, 0.095, 0.019, &["skincare", "lipstick", "mascara", "nail art", "glow", "eyeshadow", "blush",
        "hair mask", "braids", "contour", "foundation", "curls", "serum", "face masks", "lashes", "manicure", "bob cut",
        "highlighter", "makeup looks", "balayage", "perfume", "brows"]),
    category("christmas", 1640, 0.020, 0.041, &["ornaments", "wreath", "gingerbread", "stockings", "garland", "tree",
        "mistletoe", "gift wrap", "santa", "snowman", "holiday cookies", "advent calendar", "candy cane", "reindeer",
        "fairy lights", "mantel", "nutcracker", "pine cones", "eggnog", "carols", "nativity", "winter village"]),
    category("diy-and-crafts", 2637, 0.167, 0.150, &["crafts", "paper plates", "yarn", "resin", "mason jars", "felt",
        "origami", "crochet", "glue gun", "beads", "macrame", "slime", "cardboard", "sewing", "stencils", "cricut",
        "embroidery", "clay", "tie dye", "popsicle sticks", "toddlers", "scrapbook"]),
    category("education", 3467, 0.024, 0.0, &["classroom", "worksheets", "phonics", "math games", "reading", "science",
        "preschool", "lesson plans", "spelling", "bulletin boards", "alphabet", "fractions", "handwriting", "homework",
        "kindergarten", "sight words", "anchor charts", "geography", "study notes", "vocabulary", "teachers", "puzzles"]),
    category("event-planning", 4331, 0.130, 0.009, &["wedding", "centerpieces", "invitations", "venue", "bridal shower",
        "seating chart", "balloon arch", "party favors", "reception", "anniversary", "table settings", "backdrop",
        "catering", "ceremony", "guest list", "birthday", "flowers", "bouquet", "event design", "place cards", "toast"]),
    category("finance", 5078, 0.090, 0.0, &["budget", "savings", "debt payoff", "side hustle", "investing", "coupons",
        "passive income", "credit score", "frugal living", "money tips", "retirement", "emergency fund", "spending",
        "paycheck", "cash envelopes", "grocery bill", "mortgage", "income", "bill tracker", "sinking funds", "taxes"]),
    category("home-decor", 5865, 0.080, 0.0, &["living room", "farmhouse", "throw pillows", "gallery wall", "shelves",
        "bedroom", "rug", "boho", "kitchen", "curtains", "entryway", "accent wall", "lighting", "fireplace", "sofa",
        "bathroom", "vintage finds", "dining room", "wall paint", "houseplants", "neutral tones", "small spaces"]),
    category("mens-fashion", 6729, 0.095, 0.0, &["suits", "sneakers", "denim", "streetwear", "blazer", "loafers",
        "bomber jacket", "chinos", "watch", "hoodie", "linen shirt", "outfits", "overcoat", "sunglasses", "boots",
        "necktie", "menswear", "layers", "leather", "knitwear", "capsule wardrobe", "grooming"]),
    category("quotes", 7576, 0.032, 0.016, &["love quotes", "wisdom", "happiness", "life lessons", "strength", "kindness",
        "healing", "motivation", "letting go", "dreams", "friendship", "words", "courage", "self worth", "soul", "faith",
        "gratitude", "heartbreak", "mindset", "inspiration", "peace", "feelings"]),
    category("tattoos", 8486, 0.016, 0.0, &["tattoo", "sleeve", "ink", "floral", "geometric", "mandala", "dragon",
        "forearm", "minimalist", "lettering", "rose", "wolf", "blackwork", "butterfly", "shoulder", "fine line", "snake",
        "compass", "tribal", "moon phases", "skull", "cover up"]),
    category("travel", 9460, 0.067, 0.076, &["road trip", "itinerary", "beaches", "hiking", "packing list", "islands",
        "national park", "hidden gems", "city guide", "sunset", "lake", "hotel", "mountains", "passport", "bucket list",
        "backpacking", "old town", "flights", "waterfalls", "cruise", "street food", "van life"]),
    category("vehicles", 10316, 0.049, 0.0, &["muscle car", "motorcycle", "truck", "coupe", "engine", "classic cars",
        "race track", "interior", "jeep", "hot rod", "camper van", "chrome", "turbo", "roadster", "garage", "wheels",
        "supercar", "cafe racer", "pickup", "bicycle", "concept car", "convertible"]),
];

/// Rows of all categories.
pub(super) const ROWS: u32 = 11_154;

/// The category of a row.
pub(super) fn category_of(row: u32) -> &'static Category {
    &CATEGORIES[CATEGORIES.partition_point(|category| category.first_row <= row) - 1]
}

/// Between the nouns.
#[rustfmt::skip]
pub(super) const QUALIFIERS: [&str; 44] = ["easy", "beautiful", "simple", "modern", "best", "cozy", "unique", "creative",
    "fun", "stunning", "cheap", "free", "printable", "vintage", "perfect", "quick", "amazing", "handmade", "rustic", "cute",
    "elegant", "colorful", "classic", "new", "affordable", "dreamy", "bold", "natural", "little", "favorite", "summer",
    "winter", "spring", "weekend", "trendy", "inspiring", "ultimate", "budget friendly", "minimal", "timeless", "25", "10",
    "2022", "101"];

/// What holds them together.
#[rustfmt::skip]
pub(super) const GLUE: [&str; 40] = ["for", "with", "and", "the", "your", "to", "in", "of", "ideas", "how to", "that", "you",
    "a", "this", "from", "make", "tips", "our", "at home", "on", "these", "will", "love", "every", "guide", "ways to",
    "find", "more", "is", "are", "try", "step by step", "when", "it", "can", "be", "all", "about", "inspiration",
    "tutorial"];

/// First words of a brand.
#[rustfmt::skip]
pub(super) const BRAND_FIRST: [&str; 48] = ["The", "My", "Little", "Wild", "Happy", "Urban", "Golden", "Simply", "Daily",
    "Cozy", "Blue", "Modern", "Crafty", "Busy", "Sweet", "Honest", "Rustic", "Silver", "Sunny", "Velvet", "Maple", "North",
    "Lemon", "Pixel", "Paper", "Salty", "Merry", "Quiet", "Lucky", "Coastal", "Humble", "Bright", "Clever", "Frugal",
    "Green", "Indigo", "Juniper", "Kind", "Lavender", "Mellow", "Nomad", "Olive", "Pretty", "Red", "Sage", "Thrifty",
    "Vintage", "Willow"];

/// Last words of a brand.
#[rustfmt::skip]
pub(super) const BRAND_LAST: [&str; 48] = ["Nest", "Studio", "Crafts", "Home", "Designs", "Kitchen", "Journal", "Mama",
    "House", "Collective", "Co", "Garden", "Diaries", "Loft", "Market", "Boutique", "Workshop", "Traveler", "Living",
    "Style", "Press", "Magazine", "Corner", "Barn", "Atelier", "Tribe", "Shop", "Lab", "Wardrobe", "Garage", "Notes",
    "Teacher", "Budget", "Beauty", "Planner", "Bride", "Inkworks", "Roads", "Motors", "Gallery", "Canvas", "Cottage",
    "Chic", "Mind", "Pages", "Thread", "Wanderer", "Yard"];

/// Whole phrases beyond Latin letters without accents.
#[rustfmt::skip]
pub(super) const FOREIGN: [&str; 16] = ["Уютный дом своими руками", "Идеи и вдохновение", "Красивые картины маслом",
    "手作りのアイデア", "春のコーディネート", "旅行の計画と持ち物", "Ιδέες για το σπίτι", "Χειροποίητα δώρα",
    "Decoração para sala de estar", "Ideias de decoração fácil", "Ideas fáciles para niños", "Diseño y decoración",
    "Schöne Geschenke für Zuhause", "Frühlingsdeko für draußen", "அழகான கோலங்கள்", "Idées déco à faire soi-même"];

/// Single words of the same kind, for tags.
pub(super) const FOREIGN_TAGS: [&str; 6] =
    ["Décoration Maison", "Идеи Для Дома", "Diseño De Uñas", "Frühling Deko", "手作り", "Café Décor"];

/// Pictures that are characters, some of them several joined to one.
pub(super) const EMOJI: [&str; 8] = ["🤍", "✨", "🎄", "💄", "🚗", "🌸", "👩\u{200d}🎨", "❤️"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn categories_are_blocks_of_rows_in_order() {
        assert_eq!(category_of(0).name, "art");
        assert_eq!(category_of(893).name, "art");
        assert_eq!(category_of(894).name, "beauty");
        assert_eq!(category_of(ROWS - 1).name, "vehicles");
        assert!(CATEGORIES.windows(2).all(|pair| pair[0].first_row < pair[1].first_row && pair[0].name < pair[1].name));
    }
}
