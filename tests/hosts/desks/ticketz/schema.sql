CREATE TABLE "Companies" (id serial PRIMARY KEY, name varchar(255) NOT NULL, "createdAt" timestamptz NOT NULL, "updatedAt" timestamptz NOT NULL);
CREATE TABLE "Users" (id serial PRIMARY KEY, name varchar(255) NOT NULL);
CREATE TABLE "Contacts" (id serial PRIMARY KEY, name varchar(255) NOT NULL, number varchar(255) NOT NULL, "isGroup" boolean NOT NULL DEFAULT false, "companyId" integer REFERENCES "Companies" (id));
CREATE TABLE "Whatsapps" (id serial PRIMARY KEY, name varchar(255) NOT NULL, "companyId" integer REFERENCES "Companies" (id));
CREATE TABLE "Queues" (id serial PRIMARY KEY, name varchar(255) NOT NULL, "companyId" integer REFERENCES "Companies" (id));
CREATE TABLE "QueueOptions" (id serial PRIMARY KEY, title varchar(255) NOT NULL);
CREATE TABLE "Tickets" (
  id serial PRIMARY KEY,
  status varchar(255) NOT NULL DEFAULT 'pending',
  "lastMessage" text DEFAULT '',
  "contactId" integer REFERENCES "Contacts" (id) ON UPDATE CASCADE ON DELETE CASCADE,
  "userId" integer REFERENCES "Users" (id) ON UPDATE CASCADE ON DELETE SET NULL,
  "createdAt" timestamptz(6) NOT NULL,
  "updatedAt" timestamptz(6) NOT NULL,
  "whatsappId" integer REFERENCES "Whatsapps" (id) ON UPDATE CASCADE ON DELETE SET NULL,
  "isGroup" boolean NOT NULL DEFAULT false,
  "unreadMessages" integer,
  "queueId" integer REFERENCES "Queues" (id) ON UPDATE CASCADE ON DELETE SET NULL,
  "companyId" integer REFERENCES "Companies" (id) ON UPDATE CASCADE ON DELETE SET NULL,
  uuid uuid DEFAULT gen_random_uuid(),
  chatbot boolean DEFAULT false,
  "queueOptionId" integer REFERENCES "QueueOptions" (id) ON UPDATE SET NULL ON DELETE SET NULL,
  channel text DEFAULT 'whatsapp');
CREATE INDEX idx_tickets_createdat ON "Tickets" ("createdAt");
CREATE INDEX idx_tickets_updatedat ON "Tickets" ("updatedAt");
CREATE INDEX idx_tickets_companyid_status_updatedat_id ON "Tickets" ("companyId", status, "updatedAt", id);
INSERT INTO "Companies" VALUES (1, 'one', now(), now()), (2, 'two', now(), now());
INSERT INTO "Users" VALUES (7, 'g');
INSERT INTO "Contacts" VALUES (500, 'a', '500', false, 1), (501, 'b', '501', false, 1), (600, 'c', '500', false, 2), (900, 'family', '900', true, 1);
INSERT INTO "Whatsapps" VALUES (10, 'sales', 1), (13, 'support', 1), (20, 'sales', 2);
INSERT INTO "Queues" VALUES (3, 'first line', 1);
