BEGIN TRANSACTION;
CREATE TABLE calls (
        id        INTEGER PRIMARY KEY,
        call_id   TEXT NOT NULL UNIQUE,
        uniqueid  TEXT NOT NULL,
        mode      TEXT NOT NULL,
        state     TEXT NOT NULL,
        queue     TEXT NOT NULL DEFAULT '',
        number    TEXT NOT NULL DEFAULT '',
        extension TEXT NOT NULL DEFAULT '',
        code      TEXT NOT NULL DEFAULT '',
        arrived   REAL NOT NULL,
        ended     REAL
    , seen_until REAL NOT NULL DEFAULT 0, wants INTEGER NOT NULL DEFAULT 0);
INSERT INTO "calls" VALUES(1,'pbx-1700000000.1','1700000000.1','control','transferred','77','4733990001','5252','',1700000001.0,NULL,1700000021.0,0);
INSERT INTO "calls" VALUES(2,'pbx-1700000000.2','1700000000.2','control','completed','77','4733990002','5253','',1700000002.0,1700000003.0,1700000022.0,0);
INSERT INTO "calls" VALUES(3,'pbx-1700000000.3','1700000000.3','control','lost','77','4733990003','','1',1700000003.0,1700000003.0,1700000023.0,0);
INSERT INTO "calls" VALUES(4,'pbx-1700000000.4','1700000000.4','control','offered','77','4733990004','5254','',1700000004.0,NULL,1700000024.0,0);
INSERT INTO "calls" VALUES(5,'pbx-1700000000.5','1700000000.5','control','waiting','77','4733990005','','4',1700000005.0,NULL,1700000025.0,0);
INSERT INTO "calls" VALUES(6,'pbx-1700000000.6','1700000000.6','control','received','77','4733990006','','',1700000006.0,NULL,1700000026.0,0);
INSERT INTO "calls" VALUES(7,'pbx-1700000000.7','1700000000.7','control','lost','78','4733990007','','2',1700000007.0,1700000007.0,1700000027.0,0);
INSERT INTO "calls" VALUES(8,'pbx-1700000000.8','1700000000.8','watch','transferred','79','4733990008','5260','',1700000007.0,NULL,0.0,0);
INSERT INTO "calls" VALUES(9,'pbx-1700000000.9','1700000000.9','control','canceled','77','4733990009','','',1700000008.0,1700000008.0,1700000026.0,0);
INSERT INTO "calls" VALUES(10,'pbx-1700000000.10','1700000000.10','control','completed','80','4733990010','5256','',1700000009.0,1700000009.0,1700000029.0,0);
INSERT INTO "calls" VALUES(11,'pbx-1700000000.11','1700000000.11','control','transferred','81','4733990011','5257','',1700000010.0,NULL,1700000030.0,0);
INSERT INTO "calls" VALUES(12,'pbx-1700000000.12','1700000000.12','control','canceled','77','4733990012','','',1700000010.0,1700000010.0,0.0,0);
INSERT INTO "calls" VALUES(13,'pbx-1700000000.13','1700000000.13','control','transferred','82','4733990013','5258','',1700000011.0,NULL,1700000031.0,0);
CREATE TABLE events (
        id        INTEGER PRIMARY KEY AUTOINCREMENT,
        call      INTEGER NOT NULL REFERENCES calls (id) ON DELETE CASCADE,
        kind      TEXT NOT NULL,
        at        REAL NOT NULL,
        extension TEXT NOT NULL DEFAULT '',
        link      TEXT NOT NULL DEFAULT '',
        status    TEXT NOT NULL DEFAULT 'pending',
        attempts  INTEGER NOT NULL DEFAULT 0,
        due       REAL NOT NULL DEFAULT 0,
        note      TEXT NOT NULL DEFAULT '',
        settled   REAL
    );
INSERT INTO "events" VALUES(1,1,'received',1700000001.0,'','','delivered',1,0.0,'5252',1700000001.0);
INSERT INTO "events" VALUES(2,1,'transferred',1700000001.0,'5252','','delivered',1,1700000063.0,'ok',1700000003.0);
INSERT INTO "events" VALUES(3,2,'received',1700000002.0,'','','delivered',1,0.0,'5253',1700000002.0);
INSERT INTO "events" VALUES(4,2,'transferred',1700000002.0,'5253','','delivered',1,1700000063.0,'ok',1700000003.0);
INSERT INTO "events" VALUES(5,3,'received',1700000003.0,'','','delivered',1,0.0,'1',1700000003.0);
INSERT INTO "events" VALUES(6,3,'lost',1700000003.0,'','','delivered',1,1700000063.0,'ok',1700000003.0);
INSERT INTO "events" VALUES(7,2,'completed',1700000003.0,'','','pending',1,1700000016.0,'HTTP 500',NULL);
INSERT INTO "events" VALUES(8,4,'received',1700000004.0,'','','delivered',1,0.0,'5254',1700000004.0);
INSERT INTO "events" VALUES(9,5,'received',1700000005.0,'','','delivered',1,0.0,'4',1700000005.0);
INSERT INTO "events" VALUES(10,6,'received',1700000006.0,'','','pending',0,0.0,'',NULL);
INSERT INTO "events" VALUES(11,7,'received',1700000007.0,'','','delivered',1,0.0,'2',1700000007.0);
INSERT INTO "events" VALUES(12,7,'lost',1700000007.0,'','','pending',0,1700003607.0,'waits for the caller''s message',NULL);
INSERT INTO "events" VALUES(13,8,'start_transferred',1700000007.0,'5260','','pending',1,1700000016.0,'HTTP 500',NULL);
INSERT INTO "events" VALUES(14,9,'received',1700000008.0,'','','pending',1,1700000016.0,'HTTP 500',NULL);
INSERT INTO "events" VALUES(15,9,'canceled',1700000008.0,'','','pending',0,0.0,'',NULL);
INSERT INTO "events" VALUES(16,10,'received',1700000009.0,'','','delivered',1,0.0,'5256',1700000009.0);
INSERT INTO "events" VALUES(17,10,'transferred',1700000009.0,'5256','','pending',1,1700000016.0,'HTTP 500',NULL);
INSERT INTO "events" VALUES(18,10,'completed',1700000009.0,'','','pending',0,0.0,'',NULL);
INSERT INTO "events" VALUES(19,10,'link',1700000009.0,'','http://l/a.wav','pending',0,1700003609.0,'waits until this is converted: a.wav',NULL);
INSERT INTO "events" VALUES(20,11,'received',1700000010.0,'','','delivered',1,0.0,'5257',1700000010.0);
INSERT INTO "events" VALUES(21,11,'transferred',1700000010.0,'5257','','pending',1,1700000111.0,'HTTP 500',NULL);
INSERT INTO "events" VALUES(22,12,'received',1700000010.0,'','','pending',1,1700000016.0,'HTTP 500',NULL);
INSERT INTO "events" VALUES(23,12,'canceled',1700000010.0,'','','pending',0,0.0,'',NULL);
INSERT INTO "events" VALUES(24,13,'received',1700000011.0,'','','delivered',1,0.0,'5258',1700000011.0);
INSERT INTO "events" VALUES(25,13,'transferred',1700000011.0,'5258','','refused',1,1700000071.0,'HTTP 400',1700000011.0);
CREATE TABLE notes (name TEXT PRIMARY KEY, value TEXT NOT NULL, at REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE queues (
        name  TEXT PRIMARY KEY,
        asked REAL NOT NULL,
        pace  REAL NOT NULL,
        news  INTEGER NOT NULL,
        "full"  INTEGER NOT NULL,
        code  TEXT NOT NULL
    ) WITHOUT ROWID;
INSERT INTO "queues" VALUES('77',1700000005.0,9.0,0,3,'4');
INSERT INTO "queues" VALUES('78',1700000007.0,6.0,0,-1,'2');
INSERT INTO "queues" VALUES('80',1700000009.0,6.0,1,-1,'4');
INSERT INTO "queues" VALUES('81',1700000010.0,6.0,1,-1,'4');
INSERT INTO "queues" VALUES('82',1700000011.0,6.0,1,-1,'4');
CREATE TABLE requests (at REAL NOT NULL, class INTEGER NOT NULL DEFAULT 1);
INSERT INTO "requests" VALUES(1700000001.0,1);
INSERT INTO "requests" VALUES(1700000002.0,1);
INSERT INTO "requests" VALUES(1700000003.0,1);
INSERT INTO "requests" VALUES(1700000003.0,0);
INSERT INTO "requests" VALUES(1700000003.0,0);
INSERT INTO "requests" VALUES(1700000003.0,5);
INSERT INTO "requests" VALUES(1700000004.0,1);
INSERT INTO "requests" VALUES(1700000005.0,1);
INSERT INTO "requests" VALUES(1700000007.0,1);
INSERT INTO "requests" VALUES(1700000009.0,1);
INSERT INTO "requests" VALUES(1700000010.0,1);
INSERT INTO "requests" VALUES(1700000011.0,1);
INSERT INTO "requests" VALUES(1700000011.0,0);
INSERT INTO "requests" VALUES(1700000011.0,0);
INSERT INTO "requests" VALUES(1700000011.0,0);
INSERT INTO "requests" VALUES(1700000011.0,0);
INSERT INTO "requests" VALUES(1700000011.0,2);
INSERT INTO "requests" VALUES(1700000011.0,5);
INSERT INTO "requests" VALUES(1700000011.0,5);
CREATE INDEX calls_uniqueid ON calls (uniqueid, id);
CREATE INDEX calls_open ON calls (queue, id) WHERE ended IS NULL;
CREATE INDEX calls_ended ON calls (ended) WHERE ended IS NOT NULL;
CREATE INDEX events_call ON events (call, id);
CREATE INDEX events_pending ON events (call, id) WHERE status = 'pending';
CREATE INDEX events_refused ON events (id) WHERE status = 'refused';
CREATE INDEX requests_at ON requests (at);
CREATE INDEX calls_wants ON calls (wants) WHERE wants > 0;
CREATE INDEX events_urgent ON events (call, id) WHERE status = 'pending'
        AND (kind IN ('transferred', 'start_transferred', 'completed') OR kind IN ('canceled', 'lost') AND extension != '');
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('events',25);
COMMIT;
PRAGMA user_version = 3;
