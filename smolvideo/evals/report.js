"use strict";
// Report page of a run: virtualised list of items. Rows exist only while they are in view, an item's
// images only while it is open. All texts are set with textContent, so untrusted text stays text,
// and each text has its own direction, so that right-to-left text does not reorder its neighbours.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const [CHOICE, CORRECT, HOW, TEXT, SCORES, KIND, ERROR, FRAMES, TOKENS] = [0, 1, 2, 3, 4, 5, 6, 7, 8];
  const ROW = 44;
  const LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
  const list = document.getElementById("list");
  const space = document.getElementById("space");
  const panel = document.getElementById("item");
  const form = document.getElementById("filters");
  const rows = new Map();
  let shown = [];
  let selected = -1;

  // Control and format characters are escaped, as everywhere in smolvideo.
  const ACTS = /[\0-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g;
  const visible = (text) => String(text).replace(ACTS, (character) => {
    const code = character.charCodeAt(0).toString(16);
    return code.length > 2 ? "\\u" + code.padStart(4, "0") : "\\x" + code.padStart(2, "0");
  });

  const make = (tag, text, classes) => {
    const element = document.createElement(tag);
    if (text !== undefined && text !== null) {
      element.textContent = visible(text);
      element.dir = "auto";
    }
    if (classes) element.className = classes;
    return element;
  };

  const outcome = (item, answer) => {
    if (!answer || answer[KIND]) return "no answer";
    if (answer[CORRECT]) return "right";
    if (answer[CHOICE] === null) return "names no option";
    return item.right === null ? "without a public answer" : "wrong";
  };
  const SIGN = { right: "✓", wrong: "✗", "names no option": "?", "no answer": "–", "without a public answer": "·" };

  const addSelect = (name, label, values) => {
    const wrapper = make("label");
    wrapper.append(make("bdi", label), " ");
    const select = make("select");
    select.name = name;
    for (const value of values) {
      const option = make("option", value);
      option.value = value;
      select.append(option);
    }
    wrapper.append(select);
    form.append(wrapper);
  };

  const buildFilters = () => {
    addSelect("condition", "answers", data.conditions);
    addSelect("outcome", "outcome", ["all", ...Object.keys(SIGN)]);
    data.groups.forEach((group, place) => {
      const values = new Set(data.items.map((item) => item.groups[group]).filter(Boolean));
      addSelect("group" + place, group.replaceAll("_", " "), ["all", ...[...values].sort()]);
    });
    const search = make("input");
    search.type = "search";
    search.name = "search";
    search.placeholder = "words, id or video";
    search.setAttribute("aria-label", "Search");
    form.append(search, make("output"));
    form.addEventListener("input", filter);
    form.addEventListener("submit", (event) => event.preventDefault());
  };

  const texts = data.items.map((item) =>
    [item.id, item.video, item.question, ...item.options].join("\n").toLowerCase());

  function filter() {
    const chosen = form.elements;
    const words = chosen.search.value.toLowerCase().trim();
    shown = [];
    data.items.forEach((item, place) => {
      const answer = item.answers[chosen.condition.value];
      if (chosen.outcome.value !== "all" && outcome(item, answer) !== chosen.outcome.value) return;
      if (words && !texts[place].includes(words)) return;
      for (let group = 0; group < data.groups.length; group += 1) {
        const wanted = chosen["group" + group].value;
        if (wanted !== "all" && item.groups[data.groups[group]] !== wanted) return;
      }
      shown.push(place);
    });
    form.querySelector("output").textContent = `${shown.length} of ${data.items.length} items`;
    space.style.height = `${shown.length * ROW}px`;
    for (const row of rows.values()) row.remove();
    rows.clear();
    list.scrollTop = 0;
    select(shown.length ? 0 : -1);
  }

  const makeRow = (at) => {
    const item = data.items[shown[at]];
    const result = outcome(item, item.answers[form.elements.condition.value]);
    const row = make("div", null, "row");
    row.setAttribute("role", "option");
    row.setAttribute("aria-selected", String(at === selected));
    row.style.top = `${at * ROW}px`;
    const sign = make("span", SIGN[result] + " ", result === "right" ? "good" : "bad");
    sign.title = result;
    const line = make("b");
    line.append(sign, make("bdi", item.question));
    const below = make("small");
    below.append(make("bdi", item.id), " · ", make("bdi", item.video), ` · ${result}`);
    row.append(line, below);
    row.addEventListener("click", () => select(at));
    return row;
  };

  function draw() {
    const first = Math.max(0, Math.floor(list.scrollTop / ROW) - 5);
    const last = Math.min(shown.length, Math.ceil((list.scrollTop + list.clientHeight) / ROW) + 5);
    for (const [at, row] of rows) {
      if (at < first || at >= last) {
        row.remove();
        rows.delete(at);
      }
    }
    for (let at = first; at < last; at += 1) {
      if (!rows.has(at)) {
        const row = makeRow(at);
        rows.set(at, row);
        space.append(row);
      }
    }
  }

  function select(at) {
    rows.get(selected)?.setAttribute("aria-selected", "false");
    selected = at;
    if (at >= 0) {
      if (at * ROW < list.scrollTop) list.scrollTop = at * ROW;
      const below = (at + 1) * ROW - list.clientHeight;
      if (below > list.scrollTop) list.scrollTop = below;
    }
    draw();
    rows.get(at)?.setAttribute("aria-selected", "true");
    show(at >= 0 ? data.items[shown[at]] : null);
  }

  function show(item) {
    panel.replaceChildren();
    if (!item) return;
    panel.append(make("h2", item.question));
    const strip = document.getElementById("strip-" + item.look);
    const look = data.looks[item.look];
    if (strip) {
      const image = make("img");
      image.src = "data:image/jpeg;base64," + strip.textContent;
      image.alt = `Some of the frames of ${item.video}`;
      panel.append(image);
    }
    panel.append(optionsOf(item));
    for (const condition of data.conditions) panel.append(...answerOf(item, condition));
    if (item.subtitles) {
      const more = make("details");
      more.append(make("summary", "Subtitles"), make("pre", item.subtitles));
      panel.append(more);
    }
    panel.append(factsOf(item, look));
  }

  const optionsOf = (item) => {
    const ordered = make("ol");
    const chosen = item.answers[form.elements.condition.value];
    item.options.forEach((option, place) => {
      const taken = chosen && chosen[CHOICE] === place ? " ← chosen" : "";
      const right = place === item.right ? " ✓ right" : "";
      const line = make("li", null, place === item.right ? "right" : "");
      line.append(`${LETTERS[place]}) `, make("bdi", option));
      line.append(make("strong", right, "good"), make("strong", taken, right ? "good" : "bad"));
      ordered.append(line);
    });
    return ordered;
  };

  const answerOf = (item, condition) => {
    const answer = item.answers[condition];
    const result = outcome(item, answer);
    const name = condition === "main" ? "Answer" : condition;
    const head = make("div", `${SIGN[result]} ${name}: ${result}`, result === "right" ? "good" : "bad");
    if (!answer) return [head];
    const text = make("pre", answer[ERROR] ?? answer[TEXT]);
    if (!answer[SCORES]) return [head, text];
    const scores = answer[SCORES].map((score, place) => `${LETTERS[place]} ${score.toFixed(2)}`);
    return [head, text, make("pre", "log-probabilities: " + scores.join("   "))];
  };

  const factsOf = (item, look) => {
    const facts = make("dl");
    const add = (name, value) => {
      if (value) facts.append(make("dt", name), make("dd", value));
    };
    const addAll = (name, values, between) => {
      if (!values.length) return;
      const shownValues = make("dd");
      values.forEach((value, place) => shownValues.append(place ? between : "", make("bdi", value)));
      facts.append(make("dt", name), shownValues);
    };
    const answer = item.answers[form.elements.condition.value];
    add("id", item.id);
    addAll("video", look?.file && look.file !== item.video ? [item.video, look.file] : [item.video], ", file ");
    for (const [group, value] of Object.entries(item.groups)) add(group.replaceAll("_", " "), value);
    if (answer && answer[HOW]) add("read from", answer[HOW]);
    if (answer && answer[FRAMES]) add("frames", `${answer[FRAMES]}, prompt of ${answer[TOKENS]} tokens`);
    if (look) add("at seconds", look.times.join(", "));
    if (look) addAll("notes", look.notices, "; ");
    return facts;
  };

  list.addEventListener("scroll", () => requestAnimationFrame(draw), { passive: true });
  addEventListener("resize", draw);
  list.addEventListener("keydown", (event) => {
    const page = Math.max(1, Math.floor(list.clientHeight / ROW) - 1);
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page };
    const ends = { Home: 0, End: shown.length - 1 };
    if (!(event.key in steps) && !(event.key in ends)) return;
    event.preventDefault();
    if (!shown.length) return;
    const wanted = event.key in ends ? ends[event.key] : selected + steps[event.key];
    select(Math.min(shown.length - 1, Math.max(0, wanted)));
  });
  buildFilters();
  filter();
})();
