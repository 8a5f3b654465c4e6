// Stores what is typed: in this browser at once, in the workspace within a second. No change overwrites another tab's.

const PAUSE = 400; // milliseconds without typing before a change is sent
const LONGEST_PAUSE = 900; // milliseconds after which it is sent while somebody goes on typing
const RETRY = 2000;

const same = (first, second) => JSON.stringify(first) === JSON.stringify(second);
const clock = () => new Date().toLocaleTimeString([], {hour: "2-digit", minute: "2-digit", second: "2-digit"});

export class EntryStorage {
  constructor({address, readEntry, showEntry, say, key, stored, conflict}) {
    Object.assign(this, {address, readEntry, showEntry, say, key, conflict});
    this.revision = stored.revision;
    this.entry = stored.entry; // as the workspace has it
    this.current = null; // what another tab stored, while there is a conflict
    this.sent = []; // entries that were sent and not confirmed: one of them may be what the workspace has
    this.chain = Promise.resolve();
    this.timer = this.since = null;
  }

  get conflicting() {
    return this.current !== null;
  }

  start() {
    const local = this.local();
    if (local && !same(local.entry, this.entry)) this.restore(local);
    else this.forget();
    document.getElementById("use-theirs").addEventListener("click", () => this.resolve(false));
    document.getElementById("use-mine").addEventListener("click", () => this.resolve(true));
    document.addEventListener("visibilitychange", () => (document.hidden ? this.sendAtOnce() : this.refresh()));
    window.addEventListener("pagehide", () => this.sendAtOnce());
  }

  // What was typed in this browser and has not arrived: after a crash, or while the service was away.
  restore(local) {
    const ours = local.revision === this.revision || local.sent.some((entry) => same(entry, this.entry));
    if (!ours) {
      this.showEntry(local.entry);
      this.showConflict({revision: this.revision, entry: this.entry});
      return;
    }
    this.showEntry(local.entry);
    this.say("What you typed here before is back.");
    this.push();
  }

  local() {
    try {
      return JSON.parse(localStorage.getItem(this.key));
    } catch {
      return null;
    }
  }

  keep(entry) {
    try {
      localStorage.setItem(this.key, JSON.stringify({entry, sent: this.sent, revision: this.revision}));
    } catch {
      // a private window without storage: the workspace has it within a second
    }
  }

  forget() {
    try {
      localStorage.removeItem(this.key);
    } catch {
      // as above
    }
  }

  changed() {
    if (this.conflicting) return;
    this.keep(this.readEntry());
    this.since ??= performance.now();
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.push(), Math.max(0, Math.min(PAUSE, this.since + LONGEST_PAUSE - performance.now())));
  }

  push() {
    clearTimeout(this.timer);
    this.since = null;
    this.chain = this.chain.then(() => this.store());
    return this.chain;
  }

  flush() {
    return this.push();
  }

  async store() {
    const entry = this.readEntry();
    if (this.conflicting || same(entry, this.entry)) return;
    this.sent.push(entry);
    this.keep(entry);
    try {
      this.adopt(await this.request("PUT", "/entry", {revision: this.revision, entry}), entry);
      this.say(`Stored at ${clock()}. It counts when you save it.`);
      if (same(this.readEntry(), entry)) this.forget();
    } catch (error) {
      if (error.current && same(error.current.entry, entry)) this.adopt(error.current); // it arrived before
      else if (error.current) this.showConflict(error.current);
      else if (error.status) this.say(error.message, true);
      else {
        this.say("The service can't be reached. What you typed is kept in this browser; trying again.", true);
        this.timer = setTimeout(() => this.push(), RETRY);
      }
    }
  }

  adopt(body, entry = body.entry) {
    this.revision = body.revision;
    this.entry = entry;
    this.sent = [];
  }

  // The page is about to vanish: no time to wait for an earlier request.
  sendAtOnce() {
    const entry = this.readEntry();
    if (this.conflicting || same(entry, this.entry)) return;
    this.keep(entry);
    this.push();
  }

  // Back on this tab: what another tab or device stored meanwhile is shown, unless something here has not arrived.
  async refresh() {
    await this.flush();
    if (this.conflicting || !same(this.readEntry(), this.entry)) return;
    const body = await this.request("GET", "").catch(() => null);
    if (!body || body.revision === this.revision || !same(this.readEntry(), this.entry)) return;
    this.adopt(body);
    this.showEntry(body.entry);
    this.say("Changed in another tab or on another device; this is the stored version.");
  }

  // A request about this critique, after those before it; adopts the revision that it returns.
  send(method, what, body) {
    const sent = this.chain.then(async () => {
      const found = await this.request(method, what, body);
      if (found.revision !== undefined && !what.startsWith("..")) this.revision = found.revision;
      return found;
    });
    this.chain = sent.then(() => undefined, () => undefined);
    return sent;
  }

  async request(method, what, body) {
    const path = what.startsWith("../") ? `/write/${what.slice(3)}${this.address("").replace(/^[^?]*/, "")}` : this.address(what);
    const answer = await fetch(path, {method, keepalive: method !== "GET", body: body && JSON.stringify(body),
      headers: {Accept: "application/json", ...(body && {"Content-Type": "application/json"})}});
    const found = await answer.json().catch(() => ({}));
    if (answer.ok) return found;
    const words = [found.title, found.detail].filter(Boolean).join(" ") || `The service answered ${answer.status}.`;
    throw Object.assign(new Error(words), {status: answer.status, current: found.current});
  }

  showConflict(current) {
    this.current = current;
    clearTimeout(this.timer);
    document.getElementById("conflict-text").textContent =
      "This critique was changed in another tab or on another device. Nothing was overwritten. Which version do you want?";
    this.conflict.hidden = false;
    this.conflict.scrollIntoView({block: "nearest"});
    this.say("Not stored: there are two versions.", true);
  }

  resolve(mine) {
    if (!this.conflicting) return;
    this.adopt(this.current);
    this.current = null;
    this.conflict.hidden = true;
    if (!mine) {
      this.showEntry(this.entry);
      this.forget();
      this.say("This is the stored version.");
    } else {
      this.keep(this.readEntry());
      this.push();
    }
  }
}
