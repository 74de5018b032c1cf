"use strict";
// Names of files, answers and errors are untrusted: they are set as text, never as HTML.
const $ = (id) => document.getElementById(id);
const { model, maxBody, needsKey } = document.body.dataset;
const state = { parts: [], turns: [], video: null, urls: [], running: null, looking: null };

// Marks that reverse the direction of the text around them would disguise a name.
function plain(text) {
  return text.replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g, "");
}

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

function clock(seconds, tenths = false) {
  const whole = Math.max(0, Math.floor(seconds));
  const fraction = tenths ? `.${Math.floor(10 * (seconds - whole) + 1e-6)}` : "";
  const rest = String(whole % 60).padStart(2, "0") + fraction;
  const minutes = Math.floor(whole / 60);
  if (minutes < 60) return `${minutes}:${rest}`;
  return `${Math.floor(minutes / 60)}:${String(minutes % 60).padStart(2, "0")}:${rest}`;
}

function complain(message) {
  $("problem").textContent = plain(message || "");
  $("problem").hidden = !message;
}

function headers() {
  const found = { "content-type": "application/json" };
  if (needsKey === "yes") found.authorization = `Bearer ${$("key").value.trim()}`;
  return found;
}

async function post(path, body, signal) {
  const text = JSON.stringify(body);
  if (text.length > Number(maxBody)) {
    const [size, unit] = Number(maxBody) < 1e6 ? [1e3, "kB"] : [1e6, "MB"];
    const limit = `${Math.round(Number(maxBody) / size)} ${unit}`;
    throw new Error(`This is more than the ${limit} that the server takes: --max-body raises it.`);
  }
  const response = await fetch(path, { method: "POST", headers: headers(), body: text, signal });
  if (response.ok) return response;
  let message = `${response.status} ${response.statusText}`;
  try {
    message = (await response.json()).error.message;
  } catch { /* no JSON: the status says all there is */ }
  throw new Error(message);
}

function dataUri(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(file);
  });
}

// ---------------------------------------------------------------- video and frames

async function open(files) {
  const chosen = [...files];
  if (!chosen.length) return;
  complain("");
  if (state.running) state.running.abort();
  if (state.looking) state.looking.abort();
  const looking = state.looking = new AbortController();
  for (const url of state.urls) URL.revokeObjectURL(url);
  Object.assign(state, { parts: [], turns: [], video: null, urls: [] });
  $("talk").replaceChildren();
  $("seen").hidden = true;
  $("name").textContent = plain(chosen.map((file) => file.name).join(", "));
  show(chosen);
  try {
    const parts = [];
    for (const file of chosen) {
      const url = await dataUri(file);
      const isImage = file.type.startsWith("image/") && file.type !== "image/gif";
      parts.push(isImage ? { type: "image_url", image_url: { url } }
                         : { type: "video_url", video_url: { url } });
    }
    const response = await post("/v1/video/frames", { content: parts }, looking.signal);
    const seen = await response.json();
    if (state.looking !== looking) return;
    state.parts = parts;
    showFrames(seen);
    $("question").focus();
  } catch (error) {
    if (error.name !== "AbortError") complain(error.message);
  }
}

function show(files) {
  const shown = [];
  for (const file of files) {
    const url = URL.createObjectURL(file);
    state.urls.push(url);
    if (file.type.startsWith("video/")) {
      const video = element("video", { controls: "", src: url, preload: "metadata" });
      video.muted = true;
      video.addEventListener("timeupdate", () => mark(video.currentTime));
      state.video = state.video || video;
      shown.push(video);
    } else if (files.length === 1) {
      shown.push(element("img", { src: url, alt: file.name }));
    }
  }
  $("player").replaceChildren(...shown);
  $("player").hidden = !shown.length;
}

function showFrames(seen) {
  const times = seen.data.map((frame) => frame.seconds);
  const tenths = times.some((time, place) => place && Math.abs(time - times[place - 1]) < 1);
  const buttons = seen.data.map((frame, place) => {
    const label = frame.kind === "image" ? frame.medium
      : frame.kind === "frames" ? String(place + 1) : clock(frame.seconds, tenths);
    const button = element("button", { type: "button", tabindex: place ? "-1" : "0" },
      element("img", { src: frame.image, alt: "" }), label);
    button.setAttribute("aria-label", `Play from ${label}`);
    button.dataset.seconds = frame.seconds;
    button.addEventListener("click", () => seek(frame.seconds));
    return button;
  });
  $("strip").replaceChildren(...buttons);
  const notices = seen.notices.length ? ` · ${seen.notices.join(" · ")}` : "";
  $("cost").textContent = `${seen.data.length} frames · ${seen.prompt_tokens.toLocaleString("en")} `
    + `of ${seen.context_tokens.toLocaleString("en")} tokens${notices}`;
  $("seen").hidden = false;
}

function seek(seconds) {
  if (!state.video) return;
  state.video.currentTime = seconds;
  state.video.play().catch(() => {});
  mark(seconds);
}

function mark(seconds) {
  let now = null;
  for (const button of $("strip").children) {
    button.classList.remove("now");
    if (Number(button.dataset.seconds) <= seconds + 0.001) now = button;
  }
  if (now) now.classList.add("now");
}

$("strip").addEventListener("keydown", (event) => {
  const buttons = [...$("strip").children];
  const at = buttons.indexOf(document.activeElement);
  const steps = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: buttons.length - 1 };
  const next = buttons[steps[event.key]];
  if (at < 0 || !next) return;
  event.preventDefault();
  buttons[at].tabIndex = -1;
  next.tabIndex = 0;
  next.focus();
});

// ---------------------------------------------------------------- questions

function messages(question) {
  const earlier = $("follow").checked ? state.turns : [];
  const said = earlier.flatMap((turn) => [
    { role: "user", content: [{ type: "text", text: turn.question }] },
    { role: "assistant", content: turn.answer },
  ]);
  said.push({ role: "user", content: [{ type: "text", text: question }] });
  said[0].content.unshift(...state.parts);
  return said;
}

async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      if (!block.startsWith("data: ") || block === "data: [DONE]") continue;
      yield JSON.parse(block.slice(6));
    }
  }
}

async function ask(question) {
  complain("");
  const answer = element("p", { class: "answer running", dir: "auto" });
  const cost = element("p", { class: "aside" });
  const title = element("h2", { dir: "auto" }, question);
  $("talk").append(element("article", {}, title, answer, cost));
  const running = state.running = new AbortController();
  $("send").disabled = true;
  $("stop").hidden = false;
  const started = performance.now();
  let text = "", first = null, usage = null, extras = {};
  try {
    const body = {
      model, messages: messages(question), stream: true, stream_options: { include_usage: true },
    };
    const response = await post("/v1/chat/completions", body, running.signal);
    for await (const event of events(response)) {
      if (event.error) throw new Error(event.error.message);
      const piece = event.choices[0]?.delta.content || "";
      if (piece && first === null) first = performance.now();
      text += plain(piece);
      answer.textContent = text;
      usage = event.usage || usage;
      extras = event.smolvideo || extras;
    }
    if (state.turns && text) state.turns.push({ question, answer: text });
    linkTimes(answer, text);
    if (!text) answer.append(element("span", { class: "aside" }, "(no text)"));
    cost.textContent = describe(usage, extras, (first || performance.now()) - started);
  } catch (error) {
    const stopped = error.name === "AbortError";
    cost.textContent = stopped ? "stopped" : plain(error.message);
    cost.className = stopped ? "aside" : "problem";
  } finally {
    answer.classList.remove("running");
    if (state.running === running) {
      state.running = null;
      $("send").disabled = false;
      $("stop").hidden = true;
    }
  }
}

function describe(usage, extras, milliseconds) {
  const parts = [`first token after ${(milliseconds / 1000).toFixed(1)} s`];
  if (usage) {
    const cached = usage.prompt_tokens_details.cached_tokens;
    parts.push(`${usage.prompt_tokens} tokens, ${cached} of them known`);
  }
  return plain([...parts, ...(extras.notices || [])].join(" · "));
}

// Times such as 1:05 in an answer become buttons that play from there.
function linkTimes(answer, text) {
  if (!state.video) return;
  const pieces = text.split(/\b((?:\d{1,2}:)?\d{1,2}:[0-5]\d)\b/);
  answer.replaceChildren(...pieces.map((piece, place) => {
    if (place % 2 === 0) return piece;
    const seconds = piece.split(":").reduce((total, part) => 60 * total + Number(part), 0);
    const button = element("button", { type: "button" }, piece);
    button.addEventListener("click", () => seek(seconds));
    return button;
  }));
}

$("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  const question = $("question").value.trim() || $("question").placeholder;
  if (state.running) return;
  if (!state.parts.length) return complain("Choose a video first.");
  $("question").value = "";
  ask(question);
});
$("question").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    $("ask").requestSubmit();
  }
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && state.running) state.running.abort();
});
$("stop").addEventListener("click", () => state.running && state.running.abort());

// ---------------------------------------------------------------- choosing and dropping

$("choose").addEventListener("click", () => $("file").click());
$("file").addEventListener("change", () => open($("file").files));
for (const name of ["dragenter", "dragover"]) {
  document.addEventListener(name, (event) => {
    event.preventDefault();
    $("drop").classList.add("over");
  });
}
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) $("drop").classList.remove("over");
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  $("drop").classList.remove("over");
  open(event.dataTransfer.files);
});

const prefersDark = matchMedia("(prefers-color-scheme: dark)");
function isDark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : prefersDark.matches;
}
function showTheme() {
  $("theme").textContent = isDark() ? "Light" : "Dark";
  $("theme").setAttribute("aria-pressed", String(isDark()));
}
$("theme").addEventListener("click", () => {
  document.documentElement.dataset.theme = isDark() ? "light" : "dark";
  showTheme();
});
prefersDark.addEventListener("change", showTheme);
showTheme();
$("key-row").hidden = needsKey !== "yes";
