// A table of events to work in. The kernel answers every question about the rows; here is only what
// is on the screen. Texts are set as text. The one HTML is a card, which the kernel has escaped;
// nothing is fetched.
//
// From the kernel:  {kind: "state", generation, total, all, columns, choices, sort, condition, filters}
//                   {kind: "rows", generation, offset, rows: [{id, ok, cells}]}
//                   {kind: "head", generation, column, head}
//                   {kind: "selection", ids, all, count}
//                   {kind: "card", html}, {kind: "file", name} with its bytes, {kind: "error", text}
// To the kernel:    {kind: "ready"}, {kind: "rows", generation, offset, count},
//                   {kind: "head", generation, column}, {kind: "sort", column, descending},
//                   {kind: "filter", column, text}, {kind: "between", column, low, high},
//                   {kind: "pick", column, values}, {kind: "condition", text},
//                   {kind: "columns", names}, {kind: "toggle", id}, {kind: "range", first, last},
//                   {kind: "all"}, {kind: "none"}, {kind: "open", id}, {kind: "compare"},
//                   {kind: "download", format}

const ROW = 26;
const SHOWN = 14;
const PAGE = 60;
// Browsers do not draw boxes of any height: beyond this one pixel is more than its part of a row.
const HEIGHT_MAX = 12_000_000;
const WIDTHS = { time: "12.5rem", int: "7rem", bool: "6.5rem", id: "9rem", text: "9.5rem", path: "9.5rem", json: "14rem" };
const SVG = "http://www.w3.org/2000/svg";
const BRUSH_LEAST = 4;

function element(name, attributes = {}, text = "") {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text) made.textContent = text;
  return made;
}

function drawn(name, attributes) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

// Enter, leaving the box and its own cross all ask, and the same text once.
function asks(box, ask) {
  box.dataset.sent = box.value;
  const go = () => {
    if (box.value === box.dataset.sent) return;
    box.dataset.sent = box.value;
    ask(box.value);
  };
  for (const name of ["change", "search"]) box.addEventListener(name, go);
  box.addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    go();
    event.preventDefault();
    event.stopPropagation();
  });
}

function set(box, text) {
  box.value = box.dataset.sent = text;
}

const number = (value) => value.toLocaleString("en-US");
const middle = (text) => (text.length > 14 ? `${text.slice(0, 8)}…${text.slice(-4)}` : text);

class View {
  state = null;
  pages = new Map();
  asked = new Set();
  heads = new Map();
  selected = new Set();
  allSelected = false;
  selectedCount = 0;
  first = 0;
  active = 0;
  anchor = 0;

  constructor(model, root) {
    this.model = model;
    this.listener = (message, buffers) => this.receive(message, buffers);
    model.on("msg:custom", this.listener);
    this.build(root);
    this.send({ kind: "ready" });
  }

  send(message) {
    this.model.send(message);
  }

  // The parts

  build(root) {
    this.root = element("div", { class: "mcpaudit-widget mcpaudit-table", "data-lm-suppress-shortcuts": "true" });
    this.condition = element("input", {
      type: "search",
      class: "condition",
      placeholder: "tool != echo and (duration_ms > 200 or not success)",
      "aria-label": "Show only events for which this condition holds",
      spellcheck: "false",
    });
    asks(this.condition, (text) => this.send({ kind: "condition", text }));
    this.open = this.button("Open", () => this.openActive());
    this.compare = this.button("Compare", () => this.send({ kind: "compare" }));
    this.everything = this.button("Select all", () =>
      this.send({ kind: this.selectedCount ? "none" : "all" }),
    );
    const csv = this.button("CSV", () => this.send({ kind: "download", format: "csv" }));
    const jsonl = this.button("JSONL", () => this.send({ kind: "download", format: "jsonl" }));
    csv.title = jsonl.title = "Download the selected events, or all that are shown";
    this.chooser = element("details", { class: "chooser" });
    const bar = element("div", { class: "bar" });
    bar.append(this.condition, this.chooser, this.open, this.compare, this.everything, csv, jsonl);
    this.told = element("div", { class: "told", role: "status", "aria-live": "polite" });
    this.chips = element("div", { class: "chips" });
    this.scroller = element("div", { class: "scroller" });
    this.inner = element("div", { class: "inner", role: "grid", "aria-label": "Events", "aria-multiselectable": "true" });
    this.head = element("div", { class: "head", role: "row", "aria-rowindex": "1" });
    this.rows = element("div", { class: "rows", role: "rowgroup" });
    this.inner.append(this.head, this.rows);
    this.scroller.append(this.inner);
    this.help = element(
      "p",
      { class: "help" },
      "↑ ↓ move · Enter or click opens · Space or Ctrl+click selects · Shift+click a range · Esc closes",
    );
    this.card = element("div", { class: "card" });
    this.root.append(bar, this.told, this.chips, this.scroller, this.help, this.card);
    root.append(this.root);
    this.scroller.addEventListener("scroll", () => this.plan());
    this.rows.addEventListener("click", (event) => this.click(event));
    this.rows.addEventListener("focusin", (event) => this.focused(event));
    this.root.addEventListener("keydown", (event) => this.key(event));
  }

  button(text, act) {
    const made = element("button", { type: "button" }, text);
    made.addEventListener("click", act);
    return made;
  }

  // What the kernel says

  receive(message, buffers) {
    if (message.kind === "state") this.take(message);
    else if (message.kind === "rows") this.takeRows(message);
    else if (message.kind === "head") this.takeHead(message);
    else if (message.kind === "selection") this.takeSelection(message);
    else if (message.kind === "card") this.showCard(message.html);
    else if (message.kind === "file") this.save(message.name, buffers[0]);
    else if (message.kind === "error") this.tell(message.text, true);
  }

  take(state) {
    const columns = (state_) => JSON.stringify((state_?.columns ?? []).map((c) => c.name));
    const same = columns(this.state) === columns(state);
    const moved = this.state === null || this.state.total !== state.total || !same;
    this.state = state;
    this.pages.clear();
    this.asked.clear();
    if (!this.hasFocus(this.condition)) set(this.condition, state.condition);
    if (!same) this.buildHead();
    this.refreshHead();
    this.buildChooser();
    this.buildChips();
    const filtered = state.total === state.all ? "" : ` of ${number(state.all)}`;
    this.counted = `${number(state.total)}${filtered} events`;
    this.inner.setAttribute("aria-rowcount", String(state.total + 1));
    if (moved) {
      this.scroller.scrollTop = 0;
      this.active = this.anchor = 0;
    }
    this.layout();
    this.tell();
    this.draw();
    this.askHead();
  }

  takeRows(message) {
    if (message.generation !== this.state?.generation) return;
    this.pages.set(message.offset / PAGE, message.rows);
    this.plan();
  }

  takeSelection(message) {
    this.selected = new Set(message.ids);
    this.allSelected = message.all;
    this.selectedCount = message.count;
    this.everything.textContent = message.count ? "Select none" : "Select all";
    this.compare.disabled = message.all || message.ids.length !== 2;
    this.tell();
    this.draw();
  }

  tell(text = "", isError = false) {
    const selected = this.selectedCount ? ` · ${number(this.selectedCount)} selected` : "";
    this.told.textContent = text || `${this.counted ?? ""}${selected}`;
    this.told.classList.toggle("error", isError);
  }

  showCard(html) {
    this.card.innerHTML = html;
    const close = this.button("Close", () => this.closeCard());
    close.className = "close";
    this.card.prepend(close);
    this.card.scrollIntoView({ block: "nearest" });
  }

  closeCard() {
    this.card.replaceChildren();
    this.focusRow();
  }

  save(name, bytes) {
    const url = URL.createObjectURL(new Blob([bytes]));
    const link = element("a", { href: url, download: name });
    link.click();
    URL.revokeObjectURL(url);
    this.tell(`${name}: ${number(bytes.byteLength)} bytes`);
  }

  // Heads: a name that sorts, a chart that filters, a box to type a filter into

  buildHead() {
    this.head.replaceChildren(element("div", { class: "cell tick", role: "columnheader" }, ""));
    this.heads.clear();
    for (const column of this.state.columns) {
      const cell = element("div", { class: `cell ${column.type}`, role: "columnheader" });
      const name = this.button(column.title, () => this.sortBy(column.name));
      name.className = "name";
      name.title = `Sort by ${column.title}`;
      const chart = element("div", { class: "chart" });
      const box = element("input", {
        type: "search",
        class: "box",
        placeholder: column.type === "int" ? "> 200" : column.type === "time" ? "> yesterday" : "text",
        "aria-label": `Filter ${column.title}`,
        spellcheck: "false",
      });
      asks(box, (text) => this.send({ kind: "filter", column: column.name, text }));
      cell.append(name, chart, box);
      this.head.append(cell);
      this.heads.set(column.name, { cell, name, chart, box, drawnFor: 0 });
    }
    const widths = this.state.columns.map((column) => WIDTHS[column.type] ?? "10rem");
    widths[widths.length - 1] = `minmax(${widths[widths.length - 1]}, 1fr)`;
    this.inner.style.setProperty("--columns", `34px ${widths.join(" ")}`);
  }

  refreshHead() {
    for (const column of this.state.columns) {
      const { cell, name, box } = this.heads.get(column.name);
      const [sorted, descending] = this.state.sort ?? [];
      const isSorted = sorted === column.name;
      cell.setAttribute("aria-sort", !isSorted ? "none" : descending ? "descending" : "ascending");
      name.textContent = `${column.title}${!isSorted ? "" : descending ? " ↓" : " ↑"}`;
      cell.classList.toggle("filtered", column.filter !== "");
      if (!column.filter && !this.hasFocus(box)) set(box, "");
    }
  }

  hasFocus(box) {
    // Some notebooks show an output in a shadow root.
    return this.root.getRootNode().activeElement === box;
  }

  sortBy(column) {
    const [sorted, descending] = this.state.sort ?? [];
    // Largest first, smallest first, as it was.
    if (sorted !== column) this.send({ kind: "sort", column, descending: true });
    else if (descending) this.send({ kind: "sort", column, descending: false });
    else this.send({ kind: "sort", column: null });
  }

  // One at a time: rows that are asked meanwhile do not wait for all of them.
  askHead() {
    const { generation, columns } = this.state;
    const next = columns.find((column) => this.heads.get(column.name).drawnFor !== generation);
    if (next) this.send({ kind: "head", generation, column: next.name });
  }

  takeHead(message) {
    if (message.generation !== this.state?.generation) return;
    const parts = this.heads.get(message.column);
    if (!parts) return;
    parts.drawnFor = message.generation;
    parts.chart.replaceChildren();
    const column = this.state.columns.find((item) => item.name === message.column);
    if (message.head.kind === "range") this.drawRange(parts, column, message.head);
    else this.drawValues(parts, column, message.head);
    this.askHead();
  }

  drawRange({ chart }, column, { counts, edges, ends }) {
    if (!counts.length) return;
    const most = Math.max(...counts, 1);
    const svg = drawn("svg", { viewBox: `0 0 ${counts.length} 24`, preserveAspectRatio: "none", role: "img", "aria-label": `${column.title}: from ${ends[0]} to ${ends[1]}` });
    counts.forEach((count, place) => {
      const height = count ? Math.max(1.5, (24 * count) / most) : 0;
      const bar = drawn("rect", { x: place + 0.06, y: 24 - height, width: 0.88, height });
      const title = drawn("title", {});
      title.textContent = `from ${edges[place] || ends[0]} to ${edges[place + 1] || ends[1]}: ${number(count)}`;
      bar.append(title);
      svg.append(bar);
    });
    const mark = element("div", { class: "mark" });
    chart.append(svg, mark);
    this.brush(chart, mark, (from, to) => {
      const low = Math.floor(from * counts.length);
      const high = Math.min(counts.length, Math.ceil(to * counts.length));
      this.send({ kind: "between", column: column.name, low: edges[low], high: edges[Math.max(high, low + 1)] });
    });
  }

  // A drag over the chart marks a range; a click its bar.
  brush(chart, mark, done) {
    let start = null;
    const place = (event) => {
      const box = chart.getBoundingClientRect();
      return Math.min(0.9999, Math.max(0, (event.clientX - box.left) / box.width));
    };
    chart.onpointerdown = (event) => {
      start = event.clientX;
      chart.setPointerCapture(event.pointerId);
      this.from = place(event);
    };
    chart.onpointermove = (event) => {
      if (start === null || Math.abs(event.clientX - start) < BRUSH_LEAST) return;
      const [left, right] = [this.from, place(event)].sort((a, b) => a - b);
      mark.style.left = `${left * 100}%`;
      mark.style.width = `${(right - left) * 100}%`;
    };
    chart.onpointerup = (event) => {
      if (start === null) return;
      const wide = Math.abs(event.clientX - start) >= BRUSH_LEAST;
      const [left, right] = [this.from, place(event)].sort((a, b) => a - b);
      start = null;
      mark.style.width = "0";
      done(left, wide ? right : left);
    };
  }

  drawValues({ chart }, column, { values, shown, pickable, rest, missing, distinct }) {
    const total = values.reduce((sum, [, count]) => sum + count, rest + missing) || 1;
    const bar = element("div", { class: "values" });
    values.forEach(([value, count], place) => {
      const told = `${shown[place] || "(empty)"}: ${number(count)}`;
      const part = this.button("", () => this.send({ kind: "pick", column: column.name, values: [value] }));
      part.className = `part p${place}`;
      part.disabled = !pickable[place];
      part.style.flexGrow = String(count / total);
      part.title = told;
      part.setAttribute("aria-label", `Show only ${column.title} ${told}`);
      bar.append(part);
    });
    if (rest + missing) {
      const left = element("span", { class: "part rest", title: `others: ${number(rest)}, missing: ${number(missing)}` });
      left.style.flexGrow = String((rest + missing) / total);
      bar.append(left);
    }
    const words = distinct === 1 ? shown[0] || "(empty)" : `${number(distinct)} values`;
    chart.append(bar, element("span", { class: "distinct" }, words));
  }

  buildChips() {
    // A column that is not shown filters as well.
    this.chips.replaceChildren(
      ...this.state.filters.map(([name, filter]) => {
        const chip = this.button(`${filter}  ×`, () => {
          const head = this.heads.get(name);
          if (head) set(head.box, "");
          this.send({ kind: "filter", column: name, text: "" });
        });
        chip.className = "chip";
        chip.title = "Take this filter away";
        return chip;
      }),
    );
  }

  buildChooser() {
    const isOpen = this.chooser.open;
    const shown = this.state.columns.map((column) => column.name);
    const list = element("div", { class: "choices" });
    const path = element("input", { type: "text", placeholder: "param.user.id", "aria-label": "Add a path as a column", spellcheck: "false" });
    asks(path, (text) => {
      if (text.trim()) this.send({ kind: "columns", names: [...shown, text.trim()] });
    });
    const extra = shown.filter((name) => !this.state.choices.includes(name));
    for (const name of [...this.state.choices, ...extra]) {
      const label = element("label");
      const box = element("input", { type: "checkbox" });
      box.checked = shown.includes(name);
      box.addEventListener("change", () => {
        const names = box.checked ? [...shown, name] : shown.filter((other) => other !== name);
        this.send({ kind: "columns", names });
      });
      label.append(box, name);
      list.append(label);
    }
    this.chooser.replaceChildren(element("summary", {}, "Columns"), element("div", { class: "menu" }));
    this.chooser.lastChild.append(path, list);
    this.chooser.open = isOpen;
  }

  // Rows: as many as fit, whatever the number of events

  layout() {
    this.fits = Math.max(1, Math.min(SHOWN, this.state.total));
    const height = Math.min(HEIGHT_MAX, this.state.total * ROW);
    this.rows.style.height = `${this.fits * ROW}px`;
    // The rows stand still below the head, and what is behind them scrolls.
    this.inner.style.height = `calc(var(--head) + ${Math.max(height, ROW)}px)`;
    this.scroller.style.height = `calc(var(--head) + ${this.fits * ROW + 2}px + var(--bar))`;
    this.rows.replaceChildren();
    for (let place = 0; place < Math.min(this.fits, this.state.total); place += 1) {
      // The notebook's own keys rest while a row has the focus; said of the row itself, since what
      // has the focus is asked before what is around it.
      const row = element("div", { class: "row", role: "row", tabindex: "-1", "data-lm-suppress-shortcuts": "true" });
      row.append(element("div", { class: "cell tick", role: "gridcell" }));
      for (const column of this.state.columns) {
        row.append(element("div", { class: `cell ${column.type}`, role: "gridcell" }));
      }
      this.rows.append(row);
    }
  }

  get scrollable() {
    return this.scroller.scrollHeight - this.scroller.clientHeight;
  }

  place() {
    const last = Math.max(0, this.state.total - this.fits);
    if (this.scrollable <= 0) return 0;
    return Math.round(Math.min(1, this.scroller.scrollTop / this.scrollable) * last);
  }

  plan() {
    if (!this.planned) this.planned = requestAnimationFrame(() => this.draw());
  }

  draw() {
    this.planned = 0;
    if (!this.state) return;
    this.first = this.place();
    const rows = [...this.rows.children];
    rows.forEach((line, offset) => this.drawRow(line, this.first + offset));
    const wanted = [this.first, this.first + rows.length - 1];
    for (const index of wanted) this.askPage(Math.floor(Math.max(0, index) / PAGE));
    this.open.disabled = this.state.total === 0;
  }

  askPage(page) {
    if (this.asked.has(page) || page * PAGE >= this.state.total) return;
    this.asked.add(page);
    this.send({ kind: "rows", generation: this.state.generation, offset: page * PAGE, count: PAGE });
  }

  row(index) {
    return this.pages.get(Math.floor(index / PAGE))?.[index % PAGE];
  }

  drawRow(line, index) {
    const row = this.row(index);
    line.dataset.index = String(index);
    line.setAttribute("aria-rowindex", String(index + 2));
    line.tabIndex = index === this.active ? 0 : -1;
    const isSelected = row !== undefined && (this.allSelected || this.selected.has(row.id));
    line.setAttribute("aria-selected", String(isSelected));
    line.classList.toggle("failed", row !== undefined && !row.ok);
    line.classList.toggle("waiting", row === undefined);
    const [tick, ...cells] = line.children;
    tick.textContent = isSelected ? "☑" : "☐";
    cells.forEach((cell, place) => {
      const text = row?.cells[place] ?? "";
      const { type, name } = this.state.columns[place];
      const isId = type === "id" || name.endsWith("_id");
      cell.textContent = name === "success" && row ? (row.ok ? "✓ ok" : "✗ failed") : isId ? middle(text) : text;
      cell.title = text;
    });
  }

  // What a person does

  focused(event) {
    const line = event.target.closest(".row");
    if (line) this.active = Number(line.dataset.index);
  }

  click(event) {
    const line = event.target.closest(".row");
    if (!line || String(document.getSelection()) !== "") return;
    const index = Number(line.dataset.index);
    const row = this.row(index);
    if (!row) return;
    line.focus();
    if (event.shiftKey) this.send({ kind: "range", first: this.anchor, last: index });
    else if (event.ctrlKey || event.metaKey || event.target.closest(".tick")) this.toggle(row);
    else this.send({ kind: "open", id: row.id });
    this.anchor = index;
  }

  toggle(row) {
    this.send({ kind: "toggle", id: row.id });
  }

  openActive() {
    const row = this.row(this.active);
    if (row) this.send({ kind: "open", id: row.id });
  }

  move(index) {
    const last = this.state.total - 1;
    this.active = Math.max(0, Math.min(last, index));
    if (this.active < this.first || this.active >= this.first + this.rows.children.length) {
      const top = this.active < this.first ? this.active : this.active - this.fits + 1;
      this.scroller.scrollTop = (this.scrollable * top) / Math.max(1, this.state.total - this.fits);
      this.draw();
    }
    this.focusRow();
  }

  focusRow() {
    const line = [...this.rows.children].find((item) => Number(item.dataset.index) === this.active);
    for (const item of this.rows.children) item.tabIndex = item === line ? 0 : -1;
    line?.focus({ preventScroll: true });
  }

  key(event) {
    if (event.key === "Escape" && this.card.firstChild) {
      this.closeCard();
      event.preventDefault();
      event.stopPropagation();
      return;
    }
    const line = event.target.closest(".row");
    if (!line || event.ctrlKey || event.metaKey || event.altKey) return;
    const moves = {
      ArrowDown: this.active + 1,
      ArrowUp: this.active - 1,
      PageDown: this.active + this.fits,
      PageUp: this.active - this.fits,
      Home: 0,
      End: this.state.total - 1,
    };
    const row = this.row(this.active);
    if (event.key in moves) {
      const before = this.active;
      this.move(moves[event.key]);
      if (event.shiftKey) this.send({ kind: "range", first: before, last: this.active });
    } else if (event.key === "Enter") this.openActive();
    else if (event.key === " " && row) this.toggle(row);
    else if (event.key === "Escape") this.send({ kind: "none" });
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  close() {
    cancelAnimationFrame(this.planned);
    this.model.off("msg:custom", this.listener);
    this.root.remove();
  }
}

export default {
  render({ model, el }) {
    const view = new View(model, el);
    return () => view.close();
  },
};
