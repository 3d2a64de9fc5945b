//! First and last names for the synthetic users: about as many distinct ones as the original has (595 and 927), ASCII
//! letters only. Their alphabetical order matters, since a poster's name is the first of several draws.

use super::dice::Dice;

const COMMON_FIRST_WEIGHT: u32 = 6;
const COMMONEST_LAST_WEIGHT: u32 = 16;
const COMMON_LAST_WEIGHT: u32 = 4;

/// Names with the chance of each, drawn by weight.
#[derive(Debug)]
pub(super) struct NameList {
    names: Vec<String>,
    through: Vec<u32>,
}

impl NameList {
    fn new(weighted: impl Iterator<Item = (String, u32)>) -> Self {
        let mut list = Self { names: Vec::new(), through: Vec::new() };
        let mut total = 0;
        for (name, weight) in weighted {
            total += weight;
            list.names.push(name);
            list.through.push(total);
        }
        list
    }

    /// The given names.
    pub(super) fn first() -> Self {
        let common = COMMON_FIRST.split_whitespace().map(|name| (name.to_owned(), COMMON_FIRST_WEIGHT));
        Self::new(common.chain(FIRST.split_whitespace().map(|name| (name.to_owned(), 1))))
    }

    /// The family names: the commonest, then compounds of the English kind.
    pub(super) fn last() -> Self {
        let listed = |names: &'static str, weight| names.split_whitespace().map(move |name| (name.to_owned(), weight));
        let compounds = LAST_STEMS
            .split_whitespace()
            .flat_map(|stem| LAST_ENDINGS.split_whitespace().map(move |ending| (format!("{stem}{ending}"), 1)));
        Self::new(
            listed(COMMONEST_LAST, COMMONEST_LAST_WEIGHT)
                .chain(listed(COMMON_LAST, COMMON_LAST_WEIGHT))
                .chain(compounds),
        )
    }

    /// One name.
    pub(super) fn draw<'a>(&'a self, dice: &mut Dice) -> &'a str {
        let total = self.through.last().copied().unwrap_or(1);
        let ticket = dice.below(total);
        &self.names[self.through.partition_point(|through| *through <= ticket)]
    }
}

const COMMON_FIRST: &str = "
Aaron Abigail Adam Alexander Alexis Alyssa Amanda Amber Amy Andrea Andrew Angela Anna Anthony Ashley Austin Benjamin
Brandon Brian Brittany Cassandra Catherine Charles Christina Christine Christopher Cody Courtney Crystal Cynthia Daniel
Danielle David Deborah Derek Donald Dustin Dylan Edward Elizabeth Emily Eric Erica Erin Gary George Gregory Heather
Holly Jacob James Jamie Jason Jeffrey Jennifer Jeremy Jessica John Jonathan Jordan Joseph Joshua Julie Justin Karen
Katherine Kathleen Katie Kelly Kenneth Kevin Kimberly Kristen Kyle Laura Lauren Linda Lisa Mark Mary Matthew Megan
Melissa Michael Michelle Nathan Nicholas Nicole Patricia Patrick Paul Rachel Rebecca Richard Robert Ryan Samantha Sarah
Scott Sean Stephanie Stephen Steven Susan Tara Taylor Thomas Tiffany Timothy Tyler Victoria William Zachary";

const FIRST: &str = "
Abbie Ada Adele Adrian Adriana Aidan Aileen Aimee Alan Alana Alberto Alec Alejandra Alejandro Alexa Alexandra
Alexandria Alfred Alice Alisha Alison Allen Allison Alvin Alyson Amelia Ana Andre Andy Angel Angelica Angelina Ann Anne
Annette Antonio April Ariel Arthur Arturo Audrey Ava Bailey Barbara Barry Beatrice Belinda Ben Bernard Bernice Bethany
Betty Beverly Bill Billy Bob Bobby Bonnie Brad Brady Brandi Brandy Breanna Brenda Brent Brett Briana Bridget Brooke
Bruce Bryan Bryce Caitlin Calvin Cameron Candace Candice Carla Carlos Carly Carmen Carol Carolyn Carrie Casey Cassidy
Cassie Cecilia Cedric Celeste Cesar Charlene Charlotte Chase Chelsea Cheryl Chris Christian Christy Cindy Clara
Clarence Claudia Clayton Clifford Clyde Cole Colin Colleen Connie Connor Corey Cory Craig Cristina Curtis Daisy Dakota
Dalton Damon Dan Dana Danny Darlene Darrell Darren Darryl Dawn Dean Deanna Debbie Debra Dennis Derrick Desiree Destiny
Devon Diana Diane Diego Dillon Dominique Don Donna Doris Doug Douglas Drew Duane Dwayne Ebony Eddie Edgar Eduardo
Eileen Elaine Eleanor Elena Elias Ella Ellen Emma Emmanuel Erik Erika Ernest Esther Ethan Eva Evan Evelyn Faith Felicia
Fernando Florence Frances Francis Frank Franklin Fred Frederick Gabriel Gabriella Gabrielle Gail Garrett Gene Geoffrey
Gerald Gilbert Gina Glenda Glenn Gloria Gordon Grant Greg Guy Gwendolyn Hailey Hannah Harold Harry Harvey Hayley Hazel
Hector Heidi Helen Herbert Herman Howard Hunter Irene Iris Isaac Isabel Isabella Ivan Jack Jackie Jackson Jacqueline
Jade Jaime Jake Jane Janice Jared Jasmin Jasmine Jay Jean Jeanette Jeanne Jeff Jenny Jerome Jerry Jesse Jesus Jill
Jillian Jim Jimmy Joan Joann Joanna Joanne Jodi Joe Joel Johnathan Johnny Jorge Jose Josephine Joy Joyce Juanita Judith
Judy Julia Juliana June Kaitlin Kaitlyn Kara Karina Karl Karla Kate Katherin Kathryn Kathy Katrina Kayla Keith Kelli
Kellie Kelsey Kendra Kent Kerri Kerry Kiara Kirk Kirsten Krista Kristi Kristin Kristina Kristine Kristopher Kristy Kurt
Lance Larry Latasha Laurie Lawrence Leah Lee Leonard Leslie Levi Lewis Lillian Lindsay Lindsey Logan Lonnie Loretta
Lorraine Louis Lucas Lucy Luke Lydia Lynn Mackenzie Madeline Makayla Malik Mallory Mandy Marcia Marco Marcus Margaret
Maria Marie Marilyn Mario Marisa Marissa Marlene Marsha Martha Martin Mason Maureen Maurice Max Maxwell Meagan Meghan
Melanie Melinda Mercedes Meredith Mia Micheal Micah Mike Mindy Miranda Misty Molly Monica Monique Morgan Mariana Nancy
Naomi Natalie Natasha Neil Nichole Nina Noah Norma Olivia Omar Oscar Paige Patty Paula Pedro Peggy Penny Peter Philip
Phillip Phyllis Priscilla Rachael Ralph Ramon Randall Raquel Raven Ray Raymond Renee Rhonda Ricardo Rick Ricky Rita
Roberta Roberto Robin Rodney Roger Ronald Ronnie Rosa Ross Roy Ruben Russell Ruth Sally Samuel Sandra Sara Selena
Sergio Seth Shane Shannon Shaun Shawn Shawna Sheena Shelby Shelia Shelley Shelly Sheri Sherry Sheryl Shirley Sierra
Sonya Sophia Spencer Stacey Stacie Stefanie Stanley Stuart Summer Sydney Sylvia Tabitha Tamara Tami Tammy Tanner Tanya
Tasha Terrance Terri Terry Theresa Tina Tom Tommy Toni Tony Tracey Traci Tracie Tracy Travis Tricia Tristan Troy
Valerie Vernon Veronica Vicki Vickie Victor Virginia Walter Wanda Warren Wendy Wesley Whitney Willie Wyatt Yesenia
Yolanda Yvette Yvonne";

const COMMONEST_LAST: &str =
    "Anderson Brown Davis Garcia Johnson Jones Martin Martinez Miller Rodriguez Smith Taylor Thomas Williams Wilson";

const COMMON_LAST: &str = "
Abbott Acosta Adams Adkins Aguilar Alexander Ali Allen Alvarez Bailey Baker Ball Barnes Bell Bennett Berry Brooks
Bryant Burns Butler Campbell Carter Castillo Chavez Clark Coleman Collins Cook Cooper Cox Cruz Diaz Edwards Ellis Evans
Fisher Flores Ford Foster Freeman Gibson Gomez Gonzalez Graham Gray Green Griffin Gutierrez Hall Harris Harrison Hayes
Henderson Hernandez Hill Holmes Howard Hughes Hunt Jackson James Jenkins Jordan Kelly Kennedy King Lee Lewis Lloyd Long
Lopez Marshall Mason Mendoza Mitchell Moore Morales Morgan Morris Murphy Murray Myers Nelson Nguyen Ortiz Owens Parker
Patel Patterson Perez Perry Peterson Phillips Porter Powell Price Ramirez Ramos Reed Reyes Reynolds Richardson Rivera
Roberts Robinson Rogers Ross Ruiz Russell Sanchez Sanders Scott Simmons Stewart Sullivan Thompson Torres Turner Walker
Wallace Ward Watson Webb Wells West White Wood Wright Young";

const LAST_STEMS: &str = "
Ash Bar Beck Black Brad Brant Burn Chad Clay Comp Crom Dal Dun East Elm Fair Farn Glad Gold Graf Hamp Har Haw Hol Hart
Ken Kirk Lang Law Lin Mans Mel Mid Nor Oak Pres Rad Ray Red Rich Rock Shel Stan Stock Sut Thorn Wal Win Whit";

const LAST_ENDINGS: &str = "ton ley ford field well worth man wood by ham land ing more stone brook bury dale";

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_distinct_and_ascii_letters() {
        for (list, least) in [(NameList::first(), 590), (NameList::last(), 920)] {
            let distinct: BTreeSet<&String> = list.names.iter().collect();
            assert_eq!(distinct.len(), list.names.len());
            assert!(list.names.len() > least, "{}", list.names.len());
            assert!(list.names.iter().all(|name| name.bytes().all(|byte| byte.is_ascii_alphabetic())));
        }
    }
}
