
"use strict";
// Shows the cases. Every text enters the page by textContent, so none of it can be anything but text.
(() => {
  const data = JSON.parse(document.getElementById("case-data").textContent);
  const step = 20;
  const texts = data.texts;
  const list = document.getElementById("list");
  const [search, tier, which, count, more] = ["search", "tier", "which", "count", "more"].map((id) => document.getElementById(id));
  let found = [];
  let shown = 0;

  const make = (name, kind, text) => {
    const node = document.createElement(name);
    if (kind) node.className = kind;
    if (text !== undefined) node.textContent = text;
    return node;
  };

  const every = data.tiers.flatMap((one) => one.cases.map((entry) => ({ ...entry, tier: one.name })));
  for (const entry of every) {
    const parts = [entry.id, entry.kind, entry.question, entry.gold];
    for (const answer of entry.answers) if (answer) parts.push(answer[2], ...answer[3].map((passage) => passage[1]));
    entry.words = parts.map((part) => texts[part]).join("\n").toLowerCase();
  }

  const option = (value, label) => {
    const node = make("option", "", label);
    node.value = value;
    return node;
  };
  tier.append(option("", "all tiers"), ...data.tiers.map((one) => option(one.name, one.name)));

  const differs = (entry) => new Set(entry.answers.filter(Boolean).map((answer) => answer[0])).size > 1;
  const fits = {
    all: () => true,
    flips: (entry) => entry.turned.some((turn) => turn !== 0),
    differ: differs,
    wrong: (entry) => entry.answers.every((answer) => !answer || answer[1] === false),
  };

  const answerCard = (answer, number, entry) => {
    const right = answer[1];
    const card = make("div", "answer" + (right === true ? " right" : right === false ? " wrong" : ""));
    card.append(make("h5", "", data.models[number]));
    const tags = make("div", "tags");
    if (right !== null) tags.append(make("span", right ? "tag good" : "tag bad", right ? "right" : "wrong"));
    else if (answer[0] !== null) tags.append(make("span", "tag", answer[0].toFixed(3)));
    if (number === data.reference) tags.append(make("span", "tag", "reference"));
    if (entry.turned[number] > 0) tags.append(make("span", "tag good", "gained"));
    if (entry.turned[number] < 0) tags.append(make("span", "tag bad", "lost"));
    card.append(tags, make("small", "", texts[answer[2]]));
    const passages = make("dl");
    for (const [label, text] of answer[3]) passages.append(make("dt", "", texts[label]), make("dd", "", texts[text] || "–"));
    card.append(passages);
    return card;
  };

  const caseCard = (entry) => {
    const card = make("article", "card case");
    card.append(make("small", "", `${entry.tier} · ${texts[entry.id]} · ${texts[entry.kind]}`));
    card.append(make("h4", "", texts[entry.question]));
    if (texts[entry.gold]) card.append(make("p", "gold", texts[entry.gold]));
    const answers = make("div", "answers");
    entry.answers.forEach((answer, number) => answer && answers.append(answerCard(answer, number, entry)));
    card.append(answers);
    return card;
  };

  const next = () => {
    list.append(...found.slice(shown, shown + step).map(caseCard));
    shown = Math.min(shown + step, found.length);
    more.hidden = shown >= found.length;
    count.textContent = `${shown} of ${found.length} cases`;
  };

  const find = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    found = every.filter(
      (entry) =>
        (!tier.value || entry.tier === tier.value) && fits[which.value](entry) && words.every((word) => entry.words.includes(word)),
    );
    shown = 0;
    list.replaceChildren();
    next();
  };

  for (const control of [search, tier, which]) control.addEventListener("input", find);
  more.addEventListener("click", next);
  document.getElementById("finder").hidden = false;
  find();
})();
