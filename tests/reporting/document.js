// As much of a browser's page as the script of a report touches: elements, and a plotly that writes down what it is told.
const drawn = {};
const themed = { dark: false, heard: [] };

class Element {
  constructor(name) {
    Object.assign(this, { name, id: "", textContent: "", className: "", value: "0", children: [], listeners: {} });
    Object.assign(this, { style: {}, dataset: {}, attributes: {}, focused: false });
    this.classList = {
      add: (kind) => { this.className = (this.className + " " + kind).trim(); },
      remove: (kind) => { this.className = this.className.split(" ").filter((each) => each !== kind).join(" "); },
    };
  }
  append(...children) { this.children.push(...children); }
  replaceChildren(...children) { this.children = children; }
  setAttribute(name, value) { this.attributes[name] = value; }
  addEventListener(event, listener) { this.listeners[event] = listener; }
  focus() { this.focused = true; }
  scrollIntoView() {}
  click() { this.listeners.click(); }
  get text() { return this.textContent + this.children.map((child) => child.text).join("|"); }
  // Elements below this one that a selector of names and classes names, step by step.
  find(steps) {
    if (!steps.length) return [this];
    return this.children.flatMap((child) => {
      const [name, ...kinds] = steps[0].split(".");
      const fits = (!name || name === child.name) && kinds.every((kind) => child.className.split(" ").includes(kind));
      return (fits ? child.find(steps.slice(1)) : []).concat(steps.length && child.children.length ? child.find(steps) : []);
    });
  }
}

const root = new Element("html");
const document = {
  documentElement: root,
  createElement: (name) => new Element(name),
  getElementById: (id) => root.children.find((child) => child.id === id) || null,
  querySelectorAll: (selector) => [...new Set(root.find(selector.split(" ")))],
};
const getComputedStyle = (element) => ({ caretColor: element.style.caretColor + (themed.dark ? " dark" : " light") });
const matchMedia = () => ({ addEventListener: (event, listener) => themed.heard.push(listener) });
const Plotly = {
  react: (place, traces, layout) => { drawn[place.id || place.className || place] = { traces, layout }; },
};

function place(id, text) {
  const element = new Element("div");
  Object.assign(element, { id, textContent: text });
  root.append(element);
}
