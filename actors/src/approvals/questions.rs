//! Questions and what may be answered. Pure.

use crabtree_protocol::Refusal;
use crabtree_protocol::params::questions::{Answers, Question};
use std::collections::{BTreeMap, BTreeSet};

/// How long an answer may be, bytes.
const MAX_ANSWER: usize = 16 * 1024;

/// Looks whether these questions can be asked: each has a name of its own, and none asks for a secret, which would be
/// kept and told like any answer.
///
/// # Errors
/// What the asker is told instead.
pub fn check(questions: &[Question]) -> Result<(), Refusal> {
    let mut names = BTreeSet::new();
    for question in questions {
        let id = question.question_id.as_str();
        if !names.insert(id) {
            return Err(Refusal::invalid_request(format!("question '{id}' is asked twice in one request")));
        }
        if question.is_secret == Some(true) || question.secret_store.is_some() {
            let words = "secrets are not asked for in questions; set them in the configuration";
            return Err(Refusal::invalid_request(words));
        }
        let labels: BTreeSet<_> = question.options.iter().map(|option| option.label.trim()).collect();
        if labels.len() != question.options.len() || labels.contains("") {
            let words = format!("the options of question '{id}' are not told apart by their labels");
            return Err(Refusal::invalid_request(words));
        }
    }
    Ok(())
}

/// The answers as the questions offer them.
///
/// # Errors
/// The first thing that is wrong with them.
pub fn accepted(questions: &[Question], answers: &Answers) -> Result<Answers, Refusal> {
    let known = |id: &&String| questions.iter().any(|question| question.question_id.as_str() == id.as_str());
    if let Some(stray) = answers.answers.keys().find(|id| !known(id)) {
        return Err(Refusal::invalid_answer(stray, "is not part of this request"));
    }
    let one = |question: &Question| {
        let id = question.question_id.as_str();
        let given = answers.answers.get(id).map(Vec::as_slice).unwrap_or_default();
        let chosen = chosen(question, given).map_err(|why| Refusal::invalid_answer(id, why))?;
        Ok((id.to_owned(), chosen))
    };
    Ok(Answers { answers: questions.iter().map(one).collect::<Result<BTreeMap<_, _>, Refusal>>()? })
}

fn chosen(question: &Question, given: &[String]) -> Result<Vec<String>, &'static str> {
    if given.is_empty() {
        return Err("requires an answer");
    }
    if given.iter().any(|answer| answer.trim().is_empty()) {
        return Err("contains an empty answer");
    }
    if given.iter().any(|answer| answer.len() > MAX_ANSWER) {
        return Err("contains an answer that is too long");
    }
    if given.len() > 1 && question.multi_select != Some(true) {
        return Err("does not allow multiple answers");
    }
    let free = question.options.is_empty() || question.is_other == Some(true);
    let one = |answer: &String| {
        let answer = answer.trim();
        match question.options.iter().find(|option| option.label.trim() == answer) {
            Some(option) => Ok(option.label.as_str().to_owned()),
            None if free => Ok(answer.to_owned()),
            None => Err("contains an unknown option"),
        }
    };
    given.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn questions(list: Value) -> Vec<Question> {
        serde_json::from_value(list).unwrap()
    }

    fn choice() -> Value {
        json!({ "questionId": "q1", "header": "Pick", "question": "Which?", "options": [{ "label": "A" }, { "label": "B " }] })
    }

    #[test]
    fn answers_are_among_those_that_are_offered() {
        let with = |more: Value| {
            let mut question = choice();
            question.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            questions(json!([question]))
        };
        let answer = |questions: &[Question], given: Value| {
            let answers = serde_json::from_value(json!({ "answers": given })).unwrap();
            accepted(questions, &answers)
                .map(|answers| json!(answers.answers))
                .map_err(|refusal| refusal.message)
        };
        let one = with(json!({}));
        assert_eq!(answer(&one, json!({ "q1": [" B"] })), Ok(json!({ "q1": ["B "] })));
        for (given, words) in [
            (json!({}), "question 'q1' requires an answer"),
            (json!({ "q1": [] }), "question 'q1' requires an answer"),
            (json!({ "q1": [" "] }), "question 'q1' contains an empty answer"),
            (json!({ "q1": ["Z"] }), "question 'q1' contains an unknown option"),
            (json!({ "q1": ["A", "B"] }), "question 'q1' does not allow multiple answers"),
            (json!({ "q1": ["A"], "q2": ["A"] }), "question 'q2' is not part of this request"),
            (
                json!({ "q1": ["x".repeat(MAX_ANSWER + 1)] }),
                "question 'q1' contains an answer that is too long",
            ),
        ] {
            assert_eq!(answer(&one, given), Err(words.to_owned()));
        }
        let other = with(json!({ "isOther": true, "multiSelect": true }));
        assert_eq!(answer(&other, json!({ "q1": ["A", " Z "] })), Ok(json!({ "q1": ["A", "Z"] })));
        let free = with(json!({ "options": [] }));
        assert_eq!(answer(&free, json!({ "q1": ["anything"] })), Ok(json!({ "q1": ["anything"] })));
    }

    #[test]
    fn questions_have_names_of_their_own_and_ask_for_no_secrets() {
        let refused = |list: Value| check(&questions(list)).unwrap_err().message;
        assert!(check(&questions(json!([choice()]))).is_ok());
        assert!(refused(json!([choice(), choice()])).contains("asked twice"));
        let mut secret = choice();
        secret["isSecret"] = json!(true);
        assert!(refused(json!([secret])).contains("secrets"));
        let mut twins = choice();
        twins["options"] = json!([{ "label": "A" }, { "label": " A" }]);
        assert!(refused(json!([twins])).contains("told apart"));
    }
}
