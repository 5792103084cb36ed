// The live tail's table. Texts are set as text, never as HTML; nothing is fetched.
//
// From the kernel:  {kind: "rows", number, reset, max_rows, rows: [newest first]}
//                   {kind: "say", text}           for screen readers
// To the kernel:    {kind: "ready"}               send me the whole view
//                   {kind: "shown", number}       that batch is here; send the next
//                   {kind: "open", key}           Enter, or a click
//                   {kind: "selected", keys}      at most two, the older one first
//                   {kind: "views", count}        how many outputs show the table

const COLUMNS = [
  ["label", "outcome"],
  ["time", "time (UTC)"],
  ["tool", "tool"],
  ["ms", "ms"],
  ["user", "user"],
  ["text", "arguments, or why it failed"],
];
const MARKS = { ok: "✓", failed: "✗", gap: "⚠" };
const SELECTED_MAX = 2;
// The kernel takes a view for gone when it hears so; a move within the page is no end.
const GONE_MS = 1500;

function element(name, attributes = {}, text = "") {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.textContent = text;
  return made;
}

// The same user, or session of a call without one, has the same colour at every row.
function hue(text) {
  let sum = 0;
  for (const char of text) sum = (sum * 31 + char.codePointAt(0)) % 360;
  return sum;
}

// One for each model, whatever shows it: the rows, newest first, and what is selected.
class Store {
  rows = [];
  selected = [];
  maxRows = 200;
  views = new Set();

  constructor(model) {
    this.model = model;
    model.on("msg:custom", (message) => this.receive(message));
    this.send({ kind: "ready" });
  }

  send(message) {
    this.model.send(message);
  }

  receive(message) {
    if (message.kind === "say") {
      for (const view of this.views) view.say(message.text);
    } else if (message.kind === "rows") {
      this.maxRows = message.max_rows;
      this.rows = message.reset ? this.merge(message.rows) : [...message.rows, ...this.rows];
      this.trim();
      for (const view of this.views) view.plan();
      // At once and not when it was drawn: a page in the background draws nothing.
      this.send({ kind: "shown", number: message.number });
    }
  }

  // A person who looks at a row keeps it, though the view moves on.
  merge(rows) {
    const keys = new Set(rows.map((row) => row.key));
    const held = this.rows.filter((row) => this.isHeld(row.key) && !keys.has(row.key));
    return [...rows, ...held].sort((left, right) => right.key - left.key);
  }

  trim() {
    if (this.rows.length <= this.maxRows) return;
    const tail = this.rows.slice(this.maxRows).filter((row) => this.isHeld(row.key));
    this.rows = [...this.rows.slice(0, this.maxRows), ...tail];
  }

  isHeld(key) {
    return this.selected.includes(key) || [...this.views].some((view) => view.activeKey === key);
  }

  select(key) {
    const others = this.selected.filter((other) => other !== key);
    const added = others.length === this.selected.length ? [key] : [];
    this.selected = [...others, ...added].slice(-SELECTED_MAX);
    this.selectionChanged();
  }

  clearSelection() {
    if (this.selected.length === 0) return;
    this.selected = [];
    this.selectionChanged();
  }

  selectionChanged() {
    this.send({ kind: "selected", keys: this.selected });
    for (const view of this.views) view.plan();
  }

  attach(view) {
    this.views.add(view);
    this.send({ kind: "views", count: this.views.size });
  }

  detach(view) {
    this.views.delete(view);
    setTimeout(() => this.send({ kind: "views", count: this.views.size }), GONE_MS);
  }
}

class View {
  activeKey = null;
  byKey = new Map();
  planned = 0;
  drawn = 0;

  constructor(store, root) {
    this.store = store;
    this.root = element("div", { class: "mcpaudit-widget mcpaudit-tail" });
    this.table = element("table", {
      role: "grid",
      "aria-label": "Live tool calls, newest first",
      "aria-multiselectable": "true",
      "aria-readonly": "true",
      "aria-colcount": String(COLUMNS.length),
    });
    const head = element("tr");
    for (const [name, title] of COLUMNS) {
      head.append(element("th", { scope: "col", class: name }, title));
    }
    const header = element("thead");
    header.append(head);
    this.body = element("tbody");
    this.table.append(header, this.body);
    this.empty = element("p", { class: "empty" }, "No calls yet.");
    this.live = element("p", { class: "live", role: "status", "aria-live": "polite" });
    const scroller = element("div", { class: "scroller" });
    scroller.append(this.table, this.empty);
    const help = element(
      "p",
      { class: "help" },
      "↑ ↓ move · Enter or click opens · Space or Ctrl+click selects, two at most · Esc clears",
    );
    this.root.append(scroller, help, this.live);
    root.append(this.root);
    this.body.addEventListener("click", (event) => this.click(event));
    this.body.addEventListener("focusin", (event) => this.focused(event));
    this.body.addEventListener("focusout", (event) => this.left(event));
    this.root.addEventListener("keydown", (event) => this.key(event));
    store.attach(this);
    this.draw();
  }

  plan() {
    if (!this.planned) this.planned = requestAnimationFrame(() => this.draw());
  }

  draw() {
    this.planned = 0;
    this.drawn += 1;
    const { rows, selected } = this.store;
    const wanted = new Set(rows.map((row) => row.key));
    const hadFocus = this.hasFocus();
    for (const [key, line] of this.byKey) {
      if (!wanted.has(key)) {
        line.remove();
        this.byKey.delete(key);
      }
    }
    let place = this.body.firstChild;
    for (const row of rows) {
      let line = this.byKey.get(row.key);
      if (line === undefined) {
        line = this.line(row);
        this.byKey.set(row.key, line);
        this.body.insertBefore(line, place);
      } else if (line === place) {
        place = place.nextSibling;
      } else {
        this.body.insertBefore(line, place);
      }
      const isSelected = selected.includes(row.key);
      if (line.ariaSelected !== String(isSelected)) {
        line.setAttribute("aria-selected", String(isSelected));
        line.firstChild.querySelector(".pick").textContent = isSelected ? "☑" : "";
      }
    }
    if (!wanted.has(this.activeKey)) this.activeKey = null;
    const first = rows.length ? rows[0].key : null;
    this.tabStop(this.activeKey ?? first);
    if (hadFocus && !this.hasFocus()) this.byKey.get(first)?.focus();
    this.empty.hidden = rows.length > 0;
    this.table.setAttribute("aria-rowcount", String(rows.length + 1));
  }

  line(row) {
    const line = element("tr", {
      class: row.outcome,
      tabindex: "-1",
      // The notebook's own keys (arrows, Enter, x cuts the cell) rest while a row has the focus; said
      // of the row itself, since what has the focus is asked before what is around it.
      "data-lm-suppress-shortcuts": "true",
      "aria-selected": "false",
      "data-key": String(row.key),
    });
    for (const [name] of COLUMNS) {
      const cell = element("td", { class: name }, name === "label" ? "" : row[name]);
      if (name === "label") {
        cell.append(
          element("span", { class: "pick", "aria-hidden": "true" }),
          element("span", { class: "mark", "aria-hidden": "true" }, MARKS[row.outcome] ?? "?"),
          element("span", { class: "spoken" }, row.outcome === "failed" ? "failed: " : ""),
          element("span", {}, row.label),
        );
      }
      if (name === "time") cell.title = row.when;
      if (name === "user" && row.group) cell.style.setProperty("--hue", String(hue(row.group)));
      if (name === "tool" || name === "user" || name === "text") cell.title = row[name];
      line.append(cell);
    }
    return line;
  }

  // One row takes part in Tab; the arrows move among them.
  tabStop(key) {
    const next = this.byKey.get(key);
    if (this.stop === next) return;
    this.stop?.setAttribute("tabindex", "-1");
    next?.setAttribute("tabindex", "0");
    this.stop = next;
  }

  hasFocus() {
    // Some notebooks show an output in a shadow root.
    return this.body.contains(this.root.getRootNode().activeElement);
  }

  focused(event) {
    const line = event.target.closest("tr");
    if (!line) return;
    this.activeKey = Number(line.dataset.key);
    this.tabStop(this.activeKey);
  }

  left(event) {
    if (!this.body.contains(event.relatedTarget)) this.activeKey = null;
  }

  click(event) {
    const line = event.target.closest("tr");
    // A row that was drawn anew under the pointer: the click is the table body's.
    if (!line) return;
    const key = Number(line.dataset.key);
    // Whoever marks text in a cell wants to copy it.
    if (String(document.getSelection()) !== "") return;
    line.focus();
    if (event.ctrlKey || event.metaKey || event.shiftKey || event.target.closest(".label")) {
      this.store.select(key);
    } else {
      this.store.send({ kind: "open", key });
    }
  }

  key(event) {
    const line = event.target.closest("tbody tr");
    if (!line || event.ctrlKey || event.metaKey || event.altKey) return;
    const key = Number(line.dataset.key);
    const page = 10;
    const lines = [...this.body.children];
    const place = lines.indexOf(line);
    const moves = {
      ArrowDown: place + 1,
      ArrowUp: place - 1,
      PageDown: place + page,
      PageUp: place - page,
      Home: 0,
      End: lines.length - 1,
    };
    if (event.key in moves) {
      lines[Math.max(0, Math.min(lines.length - 1, moves[event.key]))].focus();
    } else if (event.key === "Enter") {
      this.store.send({ kind: "open", key });
    } else if (event.key === " ") {
      this.store.select(key);
    } else if (event.key === "Escape") {
      this.store.clearSelection();
    } else {
      return;
    }
    event.preventDefault();
    event.stopPropagation();
  }

  say(text) {
    this.live.textContent = text;
  }

  close() {
    cancelAnimationFrame(this.planned);
    this.root.remove();
    this.store.detach(this);
  }
}

export default () => {
  let store;
  return {
    initialize({ model }) {
      store = new Store(model);
    },
    render({ el }) {
      const view = new View(store, el);
      return () => view.close();
    },
  };
};
