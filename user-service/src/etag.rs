//! Preconditions on an entity tag (RFC 9110, sections 8.8.3 and 13.1).

/// A list of entity tags, or `*`.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Tags {
    Any,
    List(Vec<Tag>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Tag {
    weak: bool,
    /// The tag including its quotes.
    opaque: String,
}

/// The conditions that the present version must meet before the request is carried out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Preconditions {
    if_match: Option<Tags>,
    if_none_match: Option<Tags>,
}

/// A field that is not a list of entity tags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MalformedTags;

impl Preconditions {
    /// Parses the values of `If-Match` and `If-None-Match`. Several header lines must have been
    /// joined by commas.
    ///
    /// # Errors
    ///
    /// If one of them is malformed.
    pub fn parse(
        if_match: Option<&str>,
        if_none_match: Option<&str>,
    ) -> Result<Self, MalformedTags> {
        Ok(Self {
            if_match: if_match.map(Tags::parse).transpose()?,
            if_none_match: if_none_match.map(Tags::parse).transpose()?,
        })
    }

    /// Demands that the present version has exactly this tag. An empty tag demands nothing.
    #[must_use]
    pub fn exactly(tag: &str) -> Self {
        let tag = Tag { weak: false, opaque: tag.to_owned() };
        let demanded = !tag.opaque.is_empty();
        Self { if_match: demanded.then(|| Tags::List(vec![tag])), if_none_match: None }
    }

    /// Whether `If-Match` holds for a version with the strong tag `present` (strong comparison: a
    /// weak tag never matches).
    #[must_use]
    pub fn matches(&self, present: &str) -> bool {
        match &self.if_match {
            None | Some(Tags::Any) => true,
            Some(Tags::List(tags)) => tags.iter().any(|tag| !tag.weak && tag.opaque == present),
        }
    }

    /// Whether `If-None-Match` forbids a version with the tag `present` (weak comparison).
    #[must_use]
    pub fn excludes(&self, present: &str) -> bool {
        match &self.if_none_match {
            None => false,
            Some(Tags::Any) => true,
            Some(Tags::List(tags)) => tags.iter().any(|tag| tag.opaque == present),
        }
    }
}

impl Tags {
    fn parse(text: &str) -> Result<Self, MalformedTags> {
        let blank = [' ', '\t'];
        if text.trim_matches(blank) == "*" {
            return Ok(Self::Any);
        }
        let mut tags = Vec::new();
        let mut rest = text.trim_start_matches(blank);
        while !rest.is_empty() {
            // A recipient must accept empty list elements (section 5.6.1.2).
            if let Some(after) = rest.strip_prefix(',') {
                rest = after.trim_start_matches(blank);
                continue;
            }
            let (weak, quoted) = match rest.strip_prefix("W/") {
                Some(quoted) => (true, quoted),
                None => (false, rest),
            };
            let inner = quoted.strip_prefix('"').ok_or(MalformedTags)?;
            let end = inner.find('"').ok_or(MalformedTags)?;
            let (tag, after) = quoted.split_at(end + 2);
            // `etagc` is any visible character except the double quote, and obs-text.
            if tag.chars().any(|c| c.is_ascii_control() || c == ' ') {
                return Err(MalformedTags);
            }
            tags.push(Tag { weak, opaque: tag.to_owned() });
            rest = after.trim_start_matches(blank);
            if !rest.is_empty() && !rest.starts_with(',') {
                return Err(MalformedTags);
            }
        }
        if tags.is_empty() { Err(MalformedTags) } else { Ok(Self::List(tags)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn if_match(text: &str) -> Result<Preconditions, MalformedTags> {
        Preconditions::parse(Some(text), None)
    }

    #[test]
    fn a_tag_matches_itself_and_no_weak_one() {
        for text in [r#""v1""#, r#""x", "v1""#, r#" "v1" , W/"v1""#, r#","v1","#, "*", "\t* "] {
            assert!(if_match(text).unwrap().matches(r#""v1""#), "{text}");
        }
        for text in [r#""v2""#, r#"W/"v1""#, r#""V1""#, r#""""#, r#""v1,v2""#] {
            assert!(!if_match(text).unwrap().matches(r#""v1""#), "{text}");
        }
        assert!(Preconditions::default().matches(r#""v1""#));
    }

    #[test]
    fn none_match_compares_weakly() {
        let excludes = |text| Preconditions::parse(None, Some(text)).unwrap().excludes(r#""v1""#);
        assert!(excludes(r#""v1""#) && excludes(r#"W/"v1""#) && excludes("*"));
        assert!(!excludes(r#""v2""#));
        assert!(!Preconditions::default().excludes(r#""v1""#));
    }

    #[test]
    fn anything_else_is_malformed() {
        for text in [
            "",
            " ",
            ",",
            "v1",
            r#""v1"#,
            r#"v1""#,
            r#"w/"v1""#,
            r#""a" "b""#,
            r#""a b""#,
            r#"*, "v1""#,
            r#"'v1'"#,
            r#"W/v1"#,
            r#""v1"x"#,
        ] {
            assert_eq!(if_match(text), Err(MalformedTags), "{text}");
        }
    }

    #[test]
    fn an_exact_tag_is_compared_as_it_is() {
        assert!(Preconditions::exactly("").matches(r#""v1""#));
        assert!(Preconditions::exactly(r#""v1""#).matches(r#""v1""#));
        for text in ["*", "v1", r#"W/"v1""#, r#""v1", "v2""#] {
            assert!(!Preconditions::exactly(text).matches(r#""v1""#), "{text}");
        }
    }
}
